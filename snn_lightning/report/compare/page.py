"""`compare.html`: runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from snn_lightning.analysis.results import percent
from snn_lightning.report.compare import charts, complexity
from snn_lightning.report.compare.charts import Looks, Point
from snn_lightning.report.compare.methods import Mean, Panel, by_images
from snn_lightning.report.compare.tables import Layout, known, score_table, steps_of
from snn_lightning.report.page import write_page
from snn_lightning.report.parts import Chart, Section, Table, Text, number, whole

PAGE = "compare.html"

FEW = 4
"""A chart of more methods has no table beside it that would have a column or two for each."""


def write_comparison(
    path: str | Path, panels: Sequence[Panel], notes: Sequence[str], layout: Layout | None = None
) -> Path:
    """Write the page, and the numbers of its charts to the folder of the same name.

    Args:
        path: of the page.
        panels: what `panels` has made of runs.
        notes: about what has been left out.
        layout: of the tables, see `score_table`.

    Returns:
        The path.

    Raises:
        CheckpointError: the folder can't be written.
    """
    count = sum(len(runs) for panel in panels for method in panel.methods for runs in method.runs.values())
    return write_page(
        Path(path),
        [
            section
            for index, panel in enumerate(panels, 1)
            for section in _sections(panel, panels, index, layout)
        ]
        + ([Section("warnings", "Left out", items=notes)] if notes else []),
        notes,
        title=f"Comparison of {count} runs",
        heading=f"Comparison of {count} run{'s' * (count > 1)}",
        line="; ".join(_line(panel) for panel in panels),
    )


def _line(panel: Panel) -> str:
    methods = f"{len(panel.methods)} method{'s' * (len(panel.methods) > 1)}"
    return f"{panel.title}: {methods}, T={', '.join(map(str, panel.timesteps))}"


def _sections(panel: Panel, panels: Sequence[Panel], index: int, layout: Layout | None) -> Iterator[Section]:
    """Yield the sections of a panel; those of which no run knows the numbers are left out."""
    looks = charts.looks_of([method.label for panel in panels for method in panel.methods])
    name = f"{index}-" if len(panels) > 1 else ""

    def title(text: str) -> str:
        """Return a heading: model and data in front where there are others, or a capital letter."""
        if len(panels) > 1:
            return f"{panel.title}: {text}"
        return f"{text[0].upper()}{text[1:]}" if text.split()[0].islower() else text

    caption, table = score_table(panel, layout)
    several = any(len(runs) > 1 for method in panel.methods for runs in method.runs.values())
    texts = ["Mean ± sample standard deviation over seeds."] if several else []
    yield Section(f"{name}score", title(panel.score_title), texts, tables={caption: table})
    if by_timesteps := _by_timesteps(panel, name, looks):
        texts = ["Bars are sample standard deviations over seeds."] if several else []
        yield Section(f"{name}steps", title(f"{panel.score_title} against T"), texts, by_timesteps)
    if images := [chart for t in panel.timesteps for chart in _by_images(panel, t, name)]:
        texts = ["Bars are sample standard deviations over seeds."] if several else []
        heading = f"{panel.score_title} against calibration images"
        yield Section(f"{name}images", title(heading), texts, images)
    if energy := _energy(panel, name, looks):
        texts = ["The estimated energy of an inference, of the ANN's. Up and to the left is better."]
        yield Section(f"{name}energy", title(f"{panel.score_title} against energy"), texts, energy)
    if curves := [chart for t in panel.timesteps for chart in _over_time(panel, t, name, looks)]:
        texts = ["The mean readout of the first t of T time steps."]
        yield Section(f"{name}time", title(f"{panel.score_title} over time"), texts, curves)
    if errors := [chart for t in panel.timesteps for chart in _errors(panel, t, name, looks)]:
        texts = [
            "The squared error of the rate relative to the ANN's activation, on the calibration images, when "
            "the stage was finished."
        ]
        yield Section(f"{name}errors", title("error by site"), texts, errors)
    if by_steps := _by_steps(panel, name):
        texts = [
            "Wall time of the first process, over all stages. What a step computes and later ones read again "
            "is the time of the first."
        ]
        found = dict(complexity.seconds_table(panel))
        yield Section(f"{name}seconds", title("seconds of the calibration's steps"), texts, by_steps, found)
    if sizes := dict(complexity.bytes_table(panel)):
        texts = [
            "What makes the ANN's network the SNN of a T: thresholds, weights that are not the ANN's, and "
            "potentials and biases that don't follow from thresholds and T."
        ]
        yield Section(f"{name}bytes", title("bytes to be stored for a T"), texts, tables=sizes)


def _by_timesteps(panel: Panel, name: str, looks: Looks) -> list[Chart]:
    """Draw the score against T, where there are several."""
    if len(panel.timesteps) < 2:
        return []
    series, rows = {}, []
    for method in panel.methods:
        means = {t: method.mean(f"snn_{panel.score}", t) for t in method.runs}
        series[method.label] = [_point(t, mean) for t, mean in means.items() if mean]
        rows += [[t, method.label, *_numbers(mean)] for t, mean in means.items()]
    svg = charts.curves(
        f"{name}score-by-timesteps",
        f"{panel.score_title} of {len(series)} methods against T: {_best(panel)}",
        ("time steps T", f"{panel.score_title}, %"),
        series,
        looks,
        _level(panel),
        panel.timesteps,
    )
    data = known({"T": whole, "method": str, panel.score_title: percent, "deviation": percent}, rows)
    return [Chart(f"{name}score", "SNNs that were calibrated for each T.", svg, data, listed=False)]


def _by_images(panel: Panel, timesteps: int, name: str) -> Iterator[Chart]:
    """Draw the score against the number of calibration images, where there are several."""
    found = complexity.scores_by_images(panel, timesteps)
    numbers = sorted({number for means in found.values() for number in means})
    if len(numbers) < 2:
        return
    svg = charts.curves(
        f"{name}score-by-images-{timesteps}",
        f"{panel.score_title} of SNNs of T={timesteps} against {len(numbers)} numbers of calibration images",
        ("calibration images", f"{panel.score_title}, %"),
        {label: [_point(n, mean) for n, mean in means.items()] for label, means in found.items()},
        charts.looks_of(list(by_images(panel))),
        _level(panel),
        numbers,
    )
    columns: dict[str, Text] = {
        "images": whole,
        "method": str,
        panel.score_title: percent,
        "deviation": percent,
    }
    rows = [[n, label, *_numbers(mean)] for label, means in found.items() for n, mean in means.items()]
    yield Chart(f"{name}images_{timesteps}", f"SNNs of T={timesteps}.", svg, known(columns, rows))


def _by_steps(panel: Panel, name: str) -> list[Chart]:
    """Draw the seconds of each calibration step."""
    steps = steps_of([panel])
    groups: dict[str, dict[str, list[float]]] = {}
    rows = []
    for method in panel.methods:
        for t in method.runs:
            means = {step: mean for step, key in steps.items() if (mean := method.mean(key, t))}
            if means:
                parts = [means[step].mean if step in means else 0.0 for step in steps]
                groups.setdefault(method.label, {})[f"T={t}"] = parts
            rows += [[method.label, t, step, *_numbers(mean)] for step, mean in means.items()]
    if not groups:
        return []
    svg = charts.stacks(
        f"{name}seconds-by-step",
        f"Seconds of {', '.join(steps)} in calibrations by {', '.join(groups)}",
        "seconds",
        groups,
        charts.looks_of_steps(list(steps)),
    )
    data = Table({"method": str, "T": whole, "step": str, "seconds": number, "deviation": number}, rows)
    return [Chart(f"{name}seconds", "Seconds of each step, and of all.", svg, data, listed=False)]


def _energy(panel: Panel, name: str, looks: Looks) -> list[Chart]:
    series, rows = {}, []
    best = {
        t: max(panel.methods, key=lambda m: _value(m.mean(f"snn_{panel.score}", t))) for t in panel.timesteps
    }
    for method in panel.methods:
        points = []
        for t in method.runs:
            energy, score = method.mean("energy_ratio", t), method.mean(f"snn_{panel.score}", t)
            if energy and score:
                point = _point(100 * energy.mean, score)
                text = f"T={t}" if best[t] is method else ""
                points.append(point._replace(dx=energy.deviation and 100 * energy.deviation, text=text))
                rows.append([t, method.label, *_numbers(energy), *_numbers(score)])
        if points:
            series[method.label] = points
    if not series:
        return []
    svg = charts.curves(
        f"{name}score-by-energy",
        f"{panel.score_title} of {len(series)} methods against energy, a point for each T",
        ("energy, % of the ANN's", f"{panel.score_title}, %"),
        series,
        looks,
        _level(panel),
    )
    columns: dict[str, Text] = {"T": whole, "method": str, "energy": percent, "its deviation": percent}
    columns |= {panel.score_title: percent, "deviation": percent}
    return [
        Chart(
            f"{name}energy", "A point for each T.", svg, known(columns, sorted(rows, key=lambda row: row[0]))
        )
    ]


def _over_time(panel: Panel, timesteps: int, name: str, looks: Looks) -> Iterator[Chart]:
    found = {method.label: method.over_time(panel.score, timesteps) for method in panel.methods}
    curves = {key: {t: mean for t, mean in curve.items() if mean} for key, curve in found.items()}
    series = {key: [_point(t, mean) for t, mean in curve.items()] for key, curve in curves.items() if curve}
    times = sorted({t for curve in curves.values() for t in curve})
    if len(times) < 2:
        return
    table = Table(
        {"t": whole, **dict.fromkeys(series, percent)},
        [[t, *(_value_or_none(curves[key].get(t)) for key in series)] for t in times],
    )
    svg = charts.curves(
        f"{name}over-time-{timesteps}",
        f"{panel.score_title} of SNNs of {timesteps} time steps after each of them",
        (f"time step t of {timesteps}", f"{panel.score_title}, %"),
        series,
        looks,
        _level(panel),
    )
    yield Chart(f"{name}over_time_{timesteps}", f"SNNs of T={timesteps}.", svg, table, len(series) <= FEW)


def _errors(panel: Panel, timesteps: int, name: str, looks: Looks) -> Iterator[Chart]:
    found = {method.label: method.errors(timesteps) for method in panel.methods if timesteps in method.runs}
    found = {key: errors for key, errors in found.items() if errors}
    sites = list(dict.fromkeys(site for errors in found.values() for site in errors))
    if not sites:
        return
    values = {key: [_value_or_none(errors.get(site)) for site in sites] for key, errors in found.items()}
    svg = charts.sites(
        f"{name}errors-{timesteps}",
        f"Relative error at {len(sites)} sites, T={timesteps}, of {', '.join(found)}",
        f"relative squared error, T={timesteps}",
        sites,
        values,
        looks,
    )
    rows = [(site, *row) for site, *row in zip(sites, *values.values(), strict=True)]
    table = Table({"site": str, **dict.fromkeys(values, number)}, rows)
    yield Chart(f"{name}errors_{timesteps}", f"T={timesteps}.", svg, table, len(found) <= FEW)


def _level(panel: Panel) -> float | None:
    """Return the ANN's score, where all methods start from the same ANNs."""
    scores = {mean.mean for method in panel.methods if (mean := method.ann(panel.score))}
    return 100 * scores.pop() if len(scores) == 1 else None


def _best(panel: Panel) -> str:
    """Say in words what the chart of scores shows."""
    last = panel.timesteps[-1]
    method = max(panel.methods, key=lambda method: _value(method.mean(f"snn_{panel.score}", last)))
    return f"at T={last} {method.label} has {percent(_value(method.mean(f'snn_{panel.score}', last)))}"


def _point(x: float, mean: Mean) -> Point:
    return Point(x, 100 * mean.mean, dy=None if mean.deviation is None else 100 * mean.deviation)


def _numbers(mean: Mean | None) -> tuple[float | None, float | None]:
    return (None, None) if mean is None else (mean.mean, mean.deviation)


def _value(mean: Mean | None) -> float:
    return float("-inf") if mean is None else mean.mean


def _value_or_none(mean: Mean | None) -> float | None:
    return None if mean is None else mean.mean
