"""Tables are the same text wherever they are printed."""

import pytest

from snn_lightning.tables import aligned

ROWS = [("stage", "‖x‖²", "operators"), ("[red]relu[/]", "12", "Conv2d"), ("s", "3.5", ":smile:")]


def test_columns_are_aligned_and_nothing_is_markup() -> None:
    assert aligned(ROWS) == [
        "stage         ‖x‖²  operators",
        "[red]relu[/]    12     Conv2d",
        "s              3.5    :smile:",
    ]
    assert aligned(ROWS, left=(0, 2)) == [
        "stage         ‖x‖²  operators",
        "[red]relu[/]    12  Conv2d",
        "s              3.5  :smile:",
    ]


@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_neither_the_terminal_nor_the_width_matters(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    for name, value in {"TERM": term, "FORCE_COLOR": "1", "COLUMNS": "20", "LINES": "1"}.items():
        monkeypatch.setenv(name, value)
    cell = "a long cell with spaces " * 1000 + "end"
    assert aligned([("a", "b"), (cell, cell)])[1] == f"{cell}  {cell}"
