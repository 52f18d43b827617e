"""Numbers as people read them."""

import pytest

from snn_lightning.analysis.format import si


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (640, "640"), (999.6, "1.00 k"), (16384, "16.4 k"), (999_400, "999 k"), (40.8e6, "40.8 M")],
)
def test_prefixes(number: float, shown: str) -> None:
    assert si(number) == shown
