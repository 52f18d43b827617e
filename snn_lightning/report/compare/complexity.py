"""What calibrations cost: seconds of each step, bytes a T, and calibration images (PC 5.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from snn_lightning.analysis.format import in_bytes
from snn_lightning.analysis.parameters import KINDS
from snn_lightning.report.compare.methods import Mean, Method, Panel, by_images
from snn_lightning.report.compare.tables import known, method_cells, method_columns, seconds, spread, steps_of
from snn_lightning.report.parts import Table, Text, whole

Captioned = tuple[str, Table]

NEEDED = ("seconds_by_step", "parameter_bytes")


def tables(panel: Panel) -> list[Captioned]:
    """Return the tables about a panel's complexity, those of which a run knows something."""
    return [*images_tables(panel), *seconds_table(panel), *bytes_table(panel)]


def seconds_table(panel: Panel) -> list[Captioned]:
    """Return the table with a row for each method and T, and a column a step."""
    steps = steps_of([panel])
    if not steps:
        return []
    columns: dict[str, Text] = {**method_columns(panel), "T": whole, "seeds": whole}
    columns |= {**dict.fromkeys(steps, seconds), "calibration,\nin all": seconds}
    rows = [
        [
            *method_cells(method),
            timesteps,
            len(runs),
            *(method.mean(key, timesteps) for key in (*steps.values(), "seconds.calibration")),
        ]
        for method in panel.methods
        for timesteps, runs in method.runs.items()
    ]
    return [(f"{panel.title}: seconds of the calibration's steps", known(columns, rows))]


def bytes_table(panel: Panel) -> list[Captioned]:
    """Return the table with a row for each method and kind of parameters, and a column a T.

    Where there are several T the last column is their sum: what an SNN takes that may change its T.
    """
    found = [(method, parameter_bytes(method)) for method in panel.methods]
    if not any(kinds for _, kinds in found):
        return []
    several = len(panel.timesteps) > 1
    columns: dict[str, Text] = {**method_columns(panel), "parameters": str}
    columns |= dict.fromkeys((f"T={t}" for t in panel.timesteps), in_bytes)
    columns |= {"all T": in_bytes} if several else {}
    rows = []
    for method, kinds in found:
        for kind, values in kinds.items() or [(None, dict[int, float]())]:
            cells: list[Any] = [*method_cells(method), kind, *map(values.get, panel.timesteps)]
            whole_set = set(values) == set(method.runs)
            rows.append([*cells, *([sum(values.values()) if whole_set else None] if several else [])])
    return [(f"{panel.title}: bytes to be stored for a T", Table(columns, rows))]


def parameter_bytes(method: Method) -> dict[str, dict[int, float]]:
    """Return the mean bytes at each T of each kind of parameters that the method has, and "in all"."""
    found: dict[str, dict[int, float]] = {}
    for kind in KINDS:
        means = {t: method.mean(f"parameter_bytes.{kind}", t) for t in method.runs}
        if any(mean and mean.mean for mean in means.values()):
            found[kind] = {t: mean.mean for t, mean in means.items() if mean}
    if len(found) > 1:
        times = dict.fromkeys(t for values in found.values() for t in values)
        found["in all"] = {t: sum(values.get(t, 0.0) for values in found.values()) for t in times}
    return found


def images_tables(panel: Panel) -> list[Captioned]:
    """Return for each T the table with a row a method and a column for each number of calibration images."""
    found = []
    for timesteps in panel.timesteps:
        series = scores_by_images(panel, timesteps)
        numbers = sorted({number for means in series.values() for number in means})
        if len(numbers) < 2:
            continue
        columns: dict[str, Text] = {"method": str, **dict.fromkeys((f"{n} images" for n in numbers), spread)}
        rows = [[label, *map(means.get, numbers)] for label, means in series.items()]
        title = f"{panel.title}: {panel.score_title} against calibration images, T={timesteps}, %"
        found.append((title, Table(columns, rows)))
    return found


def scores_by_images(panel: Panel, timesteps: int) -> dict[str, dict[int, Mean]]:
    """Return the mean scores at T by the number of calibration images, for each method."""
    found = {
        label: {n: method.mean(f"snn_{panel.score}", timesteps) for n, method in methods.items()}
        for label, methods in by_images(panel).items()
    }
    known_means = {label: {n: mean for n, mean in means.items() if mean} for label, means in found.items()}
    return {label: means for label, means in known_means.items() if means}


def missing(panels: Sequence[Panel]) -> Iterator[str]:
    """Say of which methods there are runs that have no seconds by step, or no bytes of parameters."""
    for panel in panels:
        without = [
            method.label
            for method in panel.methods
            if not all(
                run.results.get(key) for runs in method.runs.values() for run in runs for key in NEEDED
            )
        ]
        if without:
            yield (
                f"{panel.title}, {', '.join(without)}: there are results without seconds by step or bytes of "
                "parameters, as runs of older versions leave them."
            )
