"""Runs by method, and their scores over seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from snn_lightning.analysis.results import TITLES, score_names
from snn_lightning.errors import SettingsError, unknown
from snn_lightning.report.compare.runs import Run
from snn_lightning.report.compare.settings import differing, look_up, text


@dataclass(frozen=True)
class Mean:
    """The mean over seeds.

    Args:
        mean: of the values.
        deviation: the sample standard deviation; None of a single value.

    Example:
        >>> Mean.of([1.0, 2.0, 3.0]), Mean.of([0.5]), Mean.of([])
        (Mean(mean=2.0, deviation=1.0), Mean(mean=0.5, deviation=None), None)
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Mean | None:
        """Return the mean of what is known; None where nothing is."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True)
class Method:
    """Runs whose settings differ in nothing but seed and time steps.

    Args:
        pipeline: its name.
        values: of the settings that tell the panel's methods apart, as texts.
        runs: for each T one run a seed.
    """

    pipeline: str
    values: dict[str, str | None]
    runs: dict[int, list[Run]]

    @property
    def label(self) -> str:
        """What a legend calls it."""
        known = {name.rpartition(".")[2]: value for name, value in self.values.items()}
        # The last part of a name is short, and enough where no two are the same.
        names = known if len(known) == len(self.values) else self.values
        settings = (f"{name}={value}" for name, value in names.items() if value is not None)
        return ", ".join([self.pipeline, *settings])

    @property
    def seeds(self) -> str:
        """How many seeds the cells of a row are means of."""
        least, most = (choose(map(len, self.runs.values())) for choose in (min, max))
        return f"{least}" if least == most else f"{least}–{most}"

    def mean(self, name: str, timesteps: int) -> Mean | None:
        """Return the mean of a number of the results at T; `seconds.calibration` is one of a section."""
        return Mean.of(look_up(run.results, name) for run in self.runs.get(timesteps, []))

    def ann(self, score: str) -> Mean | None:
        """Return the mean of the ANN's score, which is the same at every T."""
        known = {run.seeds: run.results.get(f"ann_{score}") for runs in self.runs.values() for run in runs}
        return Mean.of(known.values())

    def over_time(self, score: str, timesteps: int) -> dict[int, Mean | None]:
        """Return the mean score of the SNN of T time steps after t of them."""
        curves = []
        for run in self.runs.get(timesteps, []):
            values = run.results.get(f"{score}_over_time") or []
            curves.append(dict(zip(run.results.get("times") or count(1), values, strict=False)))
        return {t: Mean.of(curve.get(t) for curve in curves) for t in sorted(set().union(*curves))}

    def errors(self, timesteps: int) -> dict[str, Mean | None]:
        """Return the mean error of each site at T, as the calibration has left it there."""
        sites: dict[str, list[float]] = {}
        for run in self.runs.get(timesteps, []):
            for record in run.results.get("stages") or []:
                if record["kind"] != "network":
                    sites.setdefault(record["name"], []).append(record["error"])
        return {name: Mean.of(errors) for name, errors in sites.items()}


@dataclass(frozen=True)
class Panel:
    """The methods on one model and one data set.

    Args:
        model, data: their names.
        score: what the methods are compared by.
        settings: the names of those that tell them apart.
        methods: in the order in which their runs were given.
    """

    model: str
    data: str
    score: str
    settings: list[str]
    methods: list[Method]

    @property
    def title(self) -> str:
        """Model and data."""
        return f"{self.model} on {self.data}"

    @property
    def score_title(self) -> str:
        """What people call the score."""
        return TITLES.get(self.score, self.score)

    @property
    def timesteps(self) -> list[int]:
        """Every T that a method has."""
        return sorted({timesteps for method in self.methods for timesteps in method.runs})


IMAGES = "data.calibration_images"


def by_images(panel: Panel) -> dict[str, dict[int, Method]]:
    """Return the methods that differ in the number of calibration images alone, each under that number.

    A setting that follows the number everywhere, as `paper.images` may, tells no methods apart.

    Returns:
        By the label of what they have in common, from few to many; nothing where all have as many images.
    """
    counted = [m for m in panel.methods if (m.values.get(IMAGES) or "").isdecimal()]
    following = {
        name for name in panel.settings if all(m.values[name] in (None, m.values[IMAGES]) for m in counted)
    }
    series: dict[str, dict[int, Method]] = {}
    for left_out in (following, {IMAGES}):
        series = {}
        for method in counted:
            values = {name: value for name, value in method.values.items() if name not in left_out}
            label = replace(method, values=values).label
            series.setdefault(label, {})[int(method.values[IMAGES] or 0)] = method
        # Where one follows in some methods, and isn't set in others, it tells them apart.
        if sum(map(len, series.values())) == len(counted):
            break
    return {label: dict(sorted(found.items())) for label, found in series.items()}


def panels(runs: Sequence[Run], score: str | None = None) -> tuple[list[Panel], list[str]]:
    """Group runs by model and data, method, T and seed.

    Args:
        runs: as `find_runs` returns them.
        score: its name; None is the first one of each panel.

    Returns:
        The panels, and notes about what has been left out.

    Raises:
        SettingsError: no run has the score, or it is a number in none.

    Example:
        >>> from pathlib import Path
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4}
        >>> of_seeds = [{**run, "seed": seed, "snn_accuracy": seed / 2} for seed in (0, 1)]
        >>> runs = [Run(Path("results.json"), results, 0.0) for results in of_seeds]
        >>> (panel,), notes = panels(runs)
        >>> panel.title, panel.methods[0].mean("snn_accuracy", 4)
        ('vgg16 on digits', Mean(mean=0.25, deviation=0.3535533905932738))
    """
    runs, notes = _newest(runs)
    found = []
    for (model, data), group in _grouped(runs, lambda run: run.network).items():
        names = [name for name in score_names(group[0].results) if any(_has(run, name) for run in group)]
        name = score or next(iter(names or score_names(group[0].results)))
        scored = [run for run in group if _has(run, name)]
        notes += [f"{run.path} is left out: it has no {name}." for run in group if run not in scored]
        if scored:
            settings, methods = _methods(scored)
            found.append(Panel(model, data, name, settings, methods))
            notes += _latencies(found[-1])
    if not found:
        known = {name for run in runs for name in score_names(run.results)}
        if score is None or score in known:
            raise SettingsError(
                f"No run has a number as its {score or ', '.join(sorted(known))}: look at the outputs of the "
                "networks, or compare other runs"
            )
        raise SettingsError(unknown("score", score, known))
    return found, notes


def _latencies(panel: Panel) -> Iterator[str]:
    """Say which methods take more than T time steps for an inference."""
    for method in panel.methods:
        means = {t: method.mean("latency_steps", t) for t in method.runs}
        late = [f"{m.mean:g} time steps at T={t}" for t, m in means.items() if m is not None and m.mean != t]
        if late:
            yield f"{panel.title}, {method.label}: an inference takes {', '.join(late)}, T for each window."


def _has(run: Run, score: str) -> bool:
    return run.results.get(f"snn_{score}") is not None


def _newest(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Return the newest run of each method, T and seed."""
    notes, kept = [], []
    same = _grouped(runs, lambda run: (run.network, _method(run), run.timesteps, run.seeds))
    for group in same.values():
        newest = max(group, key=lambda run: run.modified)
        kept.append(newest)
        notes += [
            f"{run.path} is left out: {newest.path} has the same settings and seed, and is newer."
            for run in group
            if run is not newest
        ]
    return kept, notes


def _methods(runs: Sequence[Run]) -> tuple[list[str], list[Method]]:
    groups = list(_grouped(runs, _method).values())
    names = differing([(group[0].pipeline, group[0].settings) for group in groups])
    methods = [
        Method(
            group[0].pipeline,
            {name: text(look_up(group[0].settings, name)) for name in names},
            dict(sorted(_grouped(group, lambda run: run.timesteps).items())),
        )
        for group in groups
    ]
    return names, methods


def _method(run: Run) -> tuple[str, str]:
    return run.pipeline, json.dumps(run.settings, sort_keys=True)


def _grouped(runs: Sequence[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups
