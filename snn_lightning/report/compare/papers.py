"""The papers' tables: which runs belong where, in the papers' words and order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.report.compare.layout import Cell, Layout
from snn_lightning.report.compare.methods import Mean
from snn_lightning.report.compare.runs import Run
from snn_lightning.report.compare.settings import look_up
from snn_lightning.report.compare.tables import spread
from snn_lightning.report.compare.words import (
    PIPELINES,
    batch_norm,
    images,
    method,
    network,
    on,
    pipeline,
    rounding,
    score,
    setting,
    source,
    threshold,
)
from snn_lightning.report.parts import Table


def paper_tables(layout: str, runs: Sequence[Run]) -> tuple[list[tuple[str, Table]], list[str]]:
    """Return the tables of one of `PAPERS`, each with its caption; those without a run are left out.

    Args:
        layout: a name such as "pc_table2".
        runs: as `find_runs` returns them.

    Returns:
        The tables, and notes about runs that have been left out.

    Raises:
        SettingsError: there is no such layout, or no run has a place in it.

    Example:
        >>> from pathlib import Path
        >>> results = {"model": "resnet20", "data": "digits", "pipeline": "lcp", "timesteps": 4}
        >>> results |= {"seed": 0, "ann_accuracy": 0.9, "snn_accuracy": 0.8}
        >>> (table,), notes = paper_tables("pc_table2", [Run(Path("results.json"), results, 0.0)])
        >>> table[0], table[1].shown
        ('ResNet-20 on digits', [['Baseline + LCP', '✓', '90.00', '80.00']])
    """
    if layout not in PAPERS:
        raise SettingsError(unknown("layout", layout, PAPERS))
    found: list[tuple[str, Table]] = []
    notes: list[str] = []
    for part in PAPERS[layout]:
        tables, more = part.tables(runs)
        found += tables
        notes += [note for note in more if note not in notes]
    if not found:
        raise SettingsError(f"None of the runs has a place in {layout}: give those of experiment={layout}")
    return found, notes


def duration(mean: Mean) -> str:
    """Return seconds as the paper writes them.

    Example:
        >>> duration(Mean(14.712, None)), duration(Mean(282.3, None))
        ('14.71s', '4m42s')
    """
    minutes, seconds = divmod(round(mean.mean), 60)
    return f"{minutes}m{seconds:02}s" if mean.mean >= 60 else f"{mean.mean:.2f}s"


def megabytes(mean: Mean) -> str:
    """Return bytes as the paper writes them, whose MB are 2^20 of them.

    Example:
        >>> megabytes(Mean(38_304.0, None))
        '0.0365MB'
    """
    return f"{mean.mean / 2**20:.{2 if mean.mean >= 2**20 else 4}f}MB"


def average(mean: Mean) -> str:
    """Return a fraction in percent without its deviation.

    Example:
        >>> average(Mean(0.83, 0.01))
        '83.00'
    """
    return spread(Mean(mean.mean, None))


def _mark(yes: bool) -> str:
    return "✓" if yes else "✗"


def _light_or_advanced(run: Run) -> str:
    """Return what FL Table 9 calls a method."""
    ours = {"lcp": "Ours (Light Pipeline)", "acp": "Ours (Advanced Pipeline)"}
    return ours.get(pipeline(run), PIPELINES.get(pipeline(run), pipeline(run)))


def _by_network(run: Run) -> str:
    """Return the heading of PC Table 1's columns."""
    return f"{network(run)} T={run.timesteps}"


def _of(*labels: Callable[[Run], str]) -> Callable[[Run], list[Cell]]:
    """Return PC Table 1's cells, in a row named by `labels`."""
    return lambda run: [(("+".join(label(run) for label in labels),), _by_network(run), score(run))]


def _with(name: str) -> Layout:
    letter = {"LCP": "(d)", "ACP": "(e)"}[name]
    return Layout(
        lambda run: f"{letter} Thresholds with {name}, ANN with batch norm",
        ("Method",),
        _of(threshold, lambda run: name),
        lambda run: pipeline(run) == name.lower() and batch_norm(run),
        average,
    )


def _pair(run: Run) -> list[Cell]:
    ann = f"ANN {'with' if batch_norm(run) else 'without'} BN"
    return [((ann,), _by_network(run), score(run, "ann")), ((f"SNN of {ann}",), _by_network(run), score(run))]


def _of_baseline(run: Run) -> bool:
    return pipeline(run) == "baseline" and not batch_norm(run)


def _by_timesteps(run: Run) -> list[Cell]:
    row = method(run), _mark(batch_norm(run))
    return [(row, "ANN Acc.", score(run, "ann")), (row, f"T = {run.timesteps}", score(run))]


def _by_data(run: Run) -> list[Cell]:
    row = method(run), _mark(batch_norm(run))
    return [(row, f"{on(run)} ANN", score(run, "ann")), (row, f"{on(run)} T = {run.timesteps}", score(run))]


def _detector(run: Run) -> str:
    ann, backbone = score(run, "ann", "map"), str(setting(run, "model.backbone"))
    found = "" if ann is None else f" (mAP: {100 * ann:.1f})"
    return f"{network(run)} on {on(run)}, Backbone: {backbone.replace('resnet', 'ResNet-')}{found}"


def _detections(run: Run) -> list[Cell]:
    return [((method(run),), f"T = {run.timesteps}", score(run, name="map"))]


def _times(run: Run) -> list[Cell]:
    steps = {"lcp": "Bias", "potential": "Potential", "weights": "Weights"}
    row = f"{network(run)} ({str(setting(run, 'trainer.accelerator')).upper()})"
    seconds = look_up(run.results, "seconds.calibration")
    return [((row,), steps.get(pipeline(run), pipeline(run)), seconds)]


def _space(run: Run) -> list[Cell]:
    kinds = {"lcp": "biases", "potential": "potentials", "weights": "weights"}
    kind = kinds[pipeline(run)]
    row = f"{network(run)} on {on(run)}"
    return [((row,), kind.capitalize(), look_up(run.results, f"parameter_bytes.{kind}"))]


def _samples(run: Run) -> list[Cell]:
    return [
        ((f"{network(run)} ({PIPELINES.get(pipeline(run), pipeline(run))})",), str(images(run)), score(run))
    ]


def _sources(run: Run) -> list[Cell]:
    row = source(run), f"{network(run)} ({PIPELINES.get(pipeline(run), pipeline(run))})"
    return [(row, f"T = {run.timesteps}", score(run))]


def _pooling(run: Run) -> list[Cell]:
    converted = setting(run, "pipeline.convert_avg_pool")
    return [((network(run),), "Convert AP" if converted else "Not Convert AP", score(run))]


def _of_cifar(run: Run) -> list[Cell]:
    marks = _mark(batch_norm(run)), _mark(bool(setting(run, "pipeline.convert_avg_pool")))
    row = (_light_or_advanced(run), *marks)
    return [(row, "ANN Acc.", score(run, "ann")), (row, f"T = {run.timesteps}", score(run))]


PAPERS: dict[str, tuple[Layout, ...]] = {
    "pc_table1": (
        Layout(
            lambda run: "(a) ClipFloor and ClipRound, ANN without batch norm",
            ("Method",),
            _of(threshold, rounding),
            lambda run: _of_baseline(run) and threshold(run) in ("MaxAct", "MMSE"),
            average,
        ),
        Layout(
            lambda run: "(b) Thresholds, ANN without batch norm",
            ("Method",),
            _of(threshold),
            lambda run: _of_baseline(run) and rounding(run) == "ClipRound",
            average,
        ),
        Layout(
            lambda run: "(c) ClipRound and MMSE, ANN with and without batch norm",
            ("Method",),
            _pair,
            lambda run: (pipeline(run), threshold(run), rounding(run)) == ("baseline", "MMSE", "ClipRound"),
            average,
        ),
        _with("LCP"),
        _with("ACP"),
    ),
    "pc_table2": (Layout(lambda run: f"{network(run)} on {on(run)}", ("Method", "Use BN"), _by_timesteps),),
    "pc_table3": (Layout(network, ("Method", "Use BN"), _by_data),),
    "pc_table4": (Layout(_detector, ("Method",), _detections, text=average),),
    "pc_table5": (
        Layout(lambda run: f"Time of calibration, T={run.timesteps}", ("Model",), _times, text=duration),
    ),
    "pc_space": (
        Layout(
            lambda run: f"Memory of a set of parameters, T={run.timesteps}",
            ("Model",),
            _space,
            lambda run: pipeline(run) in ("lcp", "potential", "weights"),
            megabytes,
        ),
    ),
    "pc_table6": (
        Layout(
            lambda run: (
                f"Calibration images, {PIPELINES.get(pipeline(run), pipeline(run))}, T={run.timesteps}"
            ),
            ("#Samples",),
            _samples,
        ),
    ),
    "pc_table7": (
        Layout(lambda run: f"Calibration images on {on(run)}", ("Calibration Data", "Methods"), _sources),
    ),
    "fl_table8": (
        Layout(
            lambda run: f"Average pooling on {on(run)}, T={run.timesteps}",
            ("Method",),
            _pooling,
            text=average,
        ),
    ),
    "fl_table9": (
        Layout(
            lambda run: f"{network(run)} on {on(run)}",
            ("Method", "Use BN", "Convert AP"),
            _of_cifar,
            text=average,
        ),
    ),
}
"""By the name of the experiment that makes the runs."""
