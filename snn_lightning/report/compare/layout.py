"""Tables of runs in an order and with names of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from snn_lightning.report.compare import words
from snn_lightning.report.compare.methods import Mean
from snn_lightning.report.compare.runs import Run
from snn_lightning.report.compare.tables import spread
from snn_lightning.report.parts import Table, Text

Cell = tuple[tuple[str, ...], str, float | None]
"""The labels of a row, the heading of a column, and a value."""


@dataclass(frozen=True)
class Layout:
    """How runs make a table, or one for each caption.

    Args:
        caption: of the table that a run belongs to.
        heads: the headings of the columns with a row's labels.
        cells: what a run has to say.
        belongs: whether a run has a place in it.
        text: how values are shown.
    """

    caption: Callable[[Run], str]
    heads: tuple[str, ...]
    cells: Callable[[Run], list[Cell]]
    belongs: Callable[[Run], bool] = lambda run: True
    text: Text = spread

    def tables(self, runs: Sequence[Run]) -> tuple[list[tuple[str, Table]], list[str]]:
        """Return the tables with their captions, and notes about runs that have been left out."""
        runs = sorted(filter(self.belongs, runs), key=rank)
        values, notes = self._values(runs)
        found = []
        across = sorted(runs, key=_across)
        for caption in dict.fromkeys(self.caption(run) for run in across):
            inside = [run for run in runs if self.caption(run) == caption]
            labels = dict.fromkeys(row for run in inside for row, _, _ in self.cells(run))
            inside = [run for run in across if self.caption(run) == caption]
            headings = dict.fromkeys(column for run in inside for _, column, _ in self.cells(run))
            rows = [
                [*row, *(Mean.of(values.get((caption, row, column), {}).values()) for column in headings)]
                for row in labels
            ]
            columns: dict[str, Text] = {
                **dict.fromkeys(self.heads, str),
                **dict.fromkeys(headings, self.text),
            }
            found.append((caption, Table(columns, rows)))
        return found, notes

    def _values(self, runs: Sequence[Run]) -> tuple[dict[Any, dict[Any, float | None]], list[str]]:
        """Return by cell and seed the value of the newest run."""
        values: dict[Any, dict[Any, float | None]] = {}
        newest: dict[Any, Run] = {}
        notes = []
        for run in sorted(runs, key=lambda run: run.modified):
            for row, column, value in self.cells(run):
                values.setdefault((self.caption(run), row, column), {})[run.seeds] = value
            *_, (row, column, _) = self.cells(run)
            place = (self.caption(run), row, column, run.seeds)
            if (older := newest.get(place)) is not None:
                notes.append(
                    f"{older.path} is left out: {run.path} has the same place and seed, and is newer."
                )
            newest[place] = run
        return values, notes


def _place(name: str, names: Iterable[str]) -> int:
    known = list(names)
    return known.index(name) if name in known else len(known)


def rank(run: Run) -> tuple[Any, ...]:
    """What rows are sorted by."""
    steps = _place(words.pipeline(run), words.PIPELINES)
    rule = words.threshold(run)
    stars = _place(rule.rstrip("*").split()[0], words.THRESHOLDS.values()), rule.endswith("*")
    method = words.batch_norm(run), steps, run.pipeline, stars, words.rounding(run)
    return (*method, _source_rank(run), run.timesteps, words.images(run), *_network_rank(run))


def _across(run: Run) -> tuple[Any, ...]:
    """What columns are sorted by."""
    data = _place(run.network[1], words.DATA)
    return (data, *_network_rank(run), run.timesteps, words.images(run), *rank(run))


def _source_rank(run: Run) -> int:
    return _place(words.setting(run, "data_source") or "real", words.SOURCES)


def _network_rank(run: Run) -> tuple[Any, ...]:
    name = words.network(run)
    return _place(name, dict.fromkeys(words.NETWORKS.values())), name
