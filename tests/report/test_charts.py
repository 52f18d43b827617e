"""The charts of the page."""

import re

from snn_lightning.report.charts import bars


def test_small_numbers_have_their_power_of_ten_and_no_offset() -> None:
    texts = re.findall(
        r"<text[^>]*>([^<]*)</text>", bars("c", "title", "error", ["a", "b"], {"e": [1.4e-6, 3e-7]})
    )
    assert {"4e−07", "1.2e−06"} <= set(texts)
    assert "1e−6" not in texts
    assert "0" in texts
