"""The section about a search has its trials, and is left out without one."""

from dataclasses import asdict
from pathlib import Path

import pytest

from snn_lightning.analysis.trials import Trial
from snn_lightning.report import write_report
from tests.report.support import RESULTS, calibrated, column, rows, words

TRIALS = [
    Trial("lcp", "if", 2, 2, 0.9, 1.5, False, 0.25, 0.01, 3.0, 2.5),
    Trial("lcp", "if", 4, 4, 0.92, -0.5, True, None, 0.02, 6.0, 5.5),
]


@pytest.mark.parametrize(("max_drop", "met"), [(1, "There is one."), (0, "There is one."), (None, None)])
def test_the_trials(tmp_path: Path, max_drop: float | None, met: str | None) -> None:
    results = {**RESULTS, "trials": [asdict(trial) for trial in TRIALS], "max_drop": max_drop}
    page = words(write_report(calibrated()[1], tmp_path, results=results))
    assert "The search for time steps" in page
    assert (f"loses {max_drop} points at most on the validation images. {met}" in page) == (met is not None)
    assert column(tmp_path, "search", "loses, points") == [1.5, -0.5]
    assert [row["within the budget"] for row in rows(tmp_path, "search")] == ["no", "yes"]
    assert [row["energy, of the ANN's"] for row in rows(tmp_path, "search")] == ["0.25", ""]


def test_no_search_no_section(tmp_path: Path) -> None:
    page = words(write_report(calibrated()[1], tmp_path, results=RESULTS))
    assert "The search for time steps" not in page
    assert not (tmp_path / "report" / "search.csv").exists()
