"""Figures of accuracy: against time steps and against energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snn_lightning.analysis.gather import Key
from snn_lightning.errors import SettingsError
from snn_lightning.report.style import GREY, looks, panels, styled

Summary = Mapping[Key, Mapping[str, Any]]
Pairs = dict[int, tuple[float, float]]


def plot_accuracy(summary: Summary) -> Figure:
    """Draw accuracy against T, mean and standard deviation over seeds; a panel for each model and data set.

    Args:
        summary: from `analysis.gather.summarise`.

    Raises:
        SettingsError: there is nothing in it.

    Example:
        >>> row = {"ann": (0.9, 0.0), "snn": {4: (0.7, 0.1), 8: (0.8, 0.0)}, "seeds": 2}
        >>> plot_accuracy({("vgg16", "digits", "lcp"): row}).axes[0].get_title(loc="left")
        'vgg16 on digits'
    """
    groups = _groups(summary)
    with styled():
        figure, axes = panels(7.0 * len(groups) + 0.4, 5.0, columns=len(groups))
        for axis, ((model, data), pipelines) in zip(axes, groups.items(), strict=True):
            for (colour, marker), (label, entry) in zip(
                looks(len(pipelines)), pipelines.items(), strict=True
            ):
                steps = sorted(entry["snn"])
                means, deviations = _percent({t: entry["snn"][t] for t in steps})
                axis.errorbar(
                    steps,
                    means,
                    deviations,
                    color=colour,
                    marker=marker,
                    capsize=4,
                    label=label,
                    clip_on=False,
                )
            _finish(axis, f"{model} on {data}", pipelines)
            every = sorted({t for entry in pipelines.values() for t in entry["snn"]})
            axis.set_xscale("log", base=2)
            axis.set_xticks(every, [str(t) for t in every])
            axis.minorticks_off()
            axis.set_xlabel("time steps T")
            axis.legend()
    return figure


def plot_accuracy_against_energy(summary: Summary, energies: Mapping[Key, Pairs]) -> Figure:
    """Draw accuracy against energy, a point for each T; a panel for each model and data set.

    Args:
        summary: from `analysis.gather.summarise`.
        energies: of the same runs, from `analysis.gather.energies`: energy over the ANN's.

    Raises:
        SettingsError: there is nothing in them, or the energy of a run is missing.

    Example:
        >>> key = ("vgg16", "digits", "lcp")
        >>> row = {"ann": (0.9, 0.0), "snn": {4: (0.7, 0.1)}, "seeds": 2}
        >>> figure = plot_accuracy_against_energy({key: row}, {key: {4: (0.25, 0.0)}})
        >>> figure.axes[0].get_xlabel()
        "energy of an inference (% of the ANN's)"
    """
    groups = _groups(summary)
    missing = [
        (key, t) for key, entry in summary.items() for t in entry["snn"] if t not in energies.get(key, {})
    ]
    if missing:
        (model, data, pipeline), t = missing[0]
        raise SettingsError(f"The energy of {pipeline} at T={t} for {model} on {data} is missing")
    with styled():
        figure, axes = panels(7.0 * len(groups) + 0.4, 5.0, columns=len(groups))
        for axis, ((model, data), pipelines) in zip(axes, groups.items(), strict=True):
            for (colour, marker), (label, entry) in zip(
                looks(len(pipelines)), pipelines.items(), strict=True
            ):
                steps = sorted(entry["snn"])
                means, deviations = _percent({t: entry["snn"][t] for t in steps})
                costs, spreads = _percent({t: energies[model, data, label][t] for t in steps})
                axis.errorbar(
                    costs, means, deviations, spreads, color=colour, marker=marker, capsize=4, label=label
                )
                for t, x, y in zip(steps, costs, means, strict=True):
                    axis.annotate(f"T={t}", (x, y), (6, -13), textcoords="offset points", color=colour)
            _finish(axis, f"{model} on {data}", pipelines)
            axis.set_xlim(left=0)
            axis.set_xlabel("energy of an inference (% of the ANN's)")
            axis.legend()
    return figure


def _finish(axis: Axes, title: str, pipelines: Summary) -> None:
    """Draw the ANN's accuracy, and what both figures have in common."""
    anns = [entry["ann"] for entry in pipelines.values() if entry["ann"] is not None]
    if anns:
        axis.axhline(100 * anns[0][0], color=GREY, linestyle="--", label="ANN")
    axis.set_title(title, loc="left", fontweight="bold")
    axis.set_ylabel("accuracy (%)")


def _groups(summary: Summary) -> dict[tuple[str, str], dict[Any, Any]]:
    if not summary:
        raise SettingsError("There are no results to draw: name a folder with results of calibrations")
    groups: dict[tuple[str, str], dict[Any, Any]] = {}
    for (model, data, pipeline), entry in sorted(summary.items()):
        groups.setdefault((model, data), {})[pipeline] = entry
    return groups


def _percent(pairs: Pairs) -> tuple[list[float], list[float]]:
    return [100 * mean for mean, _ in pairs.values()], [100 * deviation for _, deviation in pairs.values()]
