"""Figures of accuracy, or of another score: over time, against time steps, energy and calibration images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from snn_lightning.errors import SettingsError
from snn_lightning.report.compare.complexity import scores_by_images
from snn_lightning.report.compare.methods import Mean, Method, Panel
from snn_lightning.report.style import GREY, looks, panels, styled


def plot_accuracy(compared: Sequence[Panel]) -> Figure:
    """Draw the score against T, mean and standard deviation over seeds, for each model and data set.

    Args:
        compared: from `report.compare.panels`.

    Raises:
        SettingsError: there is nothing in it.

    Example:
        >>> from snn_lightning.analysis.results import write_results
        >>> from snn_lightning.report.compare import find_runs, panels
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4, "snn_accuracy": 0.9}
        >>> write_results("run/results.json", run)
        >>> runs, _ = find_runs(["run"])
        >>> compared, _ = panels(runs)
        >>> plot_accuracy(compared).axes[0].get_title(loc="left")
        'vgg16 on digits'
    """
    styles = _styles(compared)
    with styled():
        figure, axes = panels(6.6 * len(compared) + 1.8, 4.8, columns=len(compared))
        for axis, panel in zip(axes, compared, strict=True):
            for method in panel.methods:
                colour, marker = styles[method.label]
                found = {t: method.mean(f"snn_{panel.score}", t) for t in method.runs}
                known = {t: mean for t, mean in found.items() if mean}
                means, deviations = _percent(list(known.values()))
                axis.errorbar(
                    list(known),
                    means,
                    deviations,
                    color=colour,
                    marker=marker,
                    capsize=4,
                    label=method.label,
                    clip_on=False,
                )
            _finish(axis, panel)
            axis.set_xscale("log", base=2)
            axis.set_xticks(panel.timesteps, [str(t) for t in panel.timesteps])
            axis.minorticks_off()
            axis.set_xlabel("time steps T")
        _legend(figure, axes)
    return figure


def plot_accuracy_against_energy(compared: Sequence[Panel]) -> Figure:
    """Draw the score against energy, a point for each T, for each model and data set.

    Args:
        compared: from `report.compare.panels`.

    Raises:
        SettingsError: there is nothing in it, or the energy of a run is missing.

    Example:
        >>> from snn_lightning.analysis.results import write_results
        >>> from snn_lightning.report.compare import find_runs, panels
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4, "snn_accuracy": 0.9}
        >>> write_results("run/results.json", {**run, "energy_ratio": 0.25})
        >>> runs, _ = find_runs(["run"])
        >>> compared, _ = panels(runs)
        >>> plot_accuracy_against_energy(compared).axes[0].get_xlabel()
        "energy of an inference (% of the ANN's)"
    """
    styles = _styles(compared)
    with styled():
        figure, axes = panels(6.6 * len(compared) + 1.8, 4.8, columns=len(compared))
        for axis, panel in zip(axes, compared, strict=True):
            for method in panel.methods:
                colour, marker = styles[method.label]
                points = {
                    t: (_energy(panel, method, t), mean)
                    for t in method.runs
                    if (mean := method.mean(f"snn_{panel.score}", t))
                }
                costs, spreads = _percent([energy for energy, _ in points.values()])
                means, deviations = _percent([mean for _, mean in points.values()])
                axis.errorbar(
                    costs,
                    means,
                    deviations,
                    spreads,
                    color=colour,
                    marker=marker,
                    capsize=4,
                    label=method.label,
                )
                for t, x, y in zip(points, costs, means, strict=True):
                    axis.annotate(f"T={t}", (x, y), (8, -16), textcoords="offset points", color=colour)
            _finish(axis, panel)
            axis.margins(x=0.1)
            axis.set_xlim(left=0)
            axis.set_xlabel("energy of an inference (% of the ANN's)")
        _legend(figure, axes)
    return figure


def plot_accuracy_against_images(compared: Sequence[Panel]) -> Figure:
    """Draw the score against the number of calibration images, mean and deviation over seeds (PC Table 6).

    Models and data sets whose runs all have as many images are left out.

    Args:
        compared: from `report.compare.panels`.

    Raises:
        SettingsError: nowhere do runs differ in `data.calibration_images`.

    Example:
        >>> from snn_lightning.analysis.results import write_results
        >>> from snn_lightning.report.compare import find_runs, panels
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4}
        >>> for images, score in ((64, 0.8), (256, 0.9)):
        ...     config = {"data": {"calibration_images": images}}
        ...     write_results(f"runs/{images}/results.json", {**run, "snn_accuracy": score, "config": config})
        >>> compared, _ = panels(find_runs(["runs"])[0])
        >>> figure = plot_accuracy_against_images(compared)
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['64', '256']
    """
    found = [(panel, _by_images(panel)) for panel in compared]
    found = [(panel, lines) for panel, lines in found if len(set().union(*lines.values())) > 1]
    if not found:
        raise SettingsError(
            "There are no results to draw: name folders with results of calibrations that differ in "
            "data.calibration_images"
        )
    labels = dict.fromkeys(label for _, lines in found for label in lines)
    styles = dict(zip(labels, looks(len(labels)), strict=True))
    with styled():
        figure, axes = panels(6.6 * len(found) + 1.8, 4.8, columns=len(found))
        for axis, (panel, lines) in zip(axes, found, strict=True):
            for label, scores in lines.items():
                colour, marker = styles[label]
                means, deviations = _percent(list(scores.values()))
                axis.errorbar(
                    list(scores), means, deviations, color=colour, marker=marker, capsize=4, label=label
                )
            _finish(axis, panel)
            numbers = sorted(set().union(*lines.values()))
            axis.set_xscale("log", base=2)
            axis.set_xticks(numbers, [str(number) for number in numbers])
            axis.minorticks_off()
            axis.set_xlabel("calibration images")
        _legend(figure, axes)
    return figure


def _by_images(panel: Panel) -> dict[str, dict[int, Mean]]:
    """Return the scores of each method and T by the number of calibration images."""
    several = len(panel.timesteps) > 1
    return {
        f"{label}, T={t}" if several else label: scores
        for t in panel.timesteps
        for label, scores in scores_by_images(panel, t).items()
    }


def plot_accuracy_over_time(
    curves: Mapping[str, Sequence[float]], ann: float | None = None, title: str = "accuracy"
) -> Figure:
    """Draw the score of the mean over the first t time steps, t = 1…T, of one or several SNNs.

    Args:
        curves: by the SNN's label, such as "lcp", fractions, one a time step.
        ann: the ANN's score, a fraction.
        title: what the score is called.

    Raises:
        SettingsError: there is none, or one without time steps.

    Example:
        >>> figure = plot_accuracy_over_time({"lcp": [0.5, 0.75]}, ann=0.8)
        >>> [[float(percent) for percent in line.get_ydata()] for line in figure.axes[0].lines]
        [[50.0, 75.0], [80.0, 80.0]]
    """
    if not curves or not all(len(curve) for curve in curves.values()):
        raise SettingsError(
            "plot_accuracy_over_time needs at least one SNN, and of each at least one time step"
        )
    with styled():
        figure, (axis,) = panels(8, 4.4)
        for (colour, marker), (label, curve) in zip(looks(len(curves)), curves.items(), strict=True):
            percents = [100 * score for score in curve]
            axis.plot(
                range(1, len(curve) + 1), percents, marker=marker, color=colour, label=label, clip_on=False
            )
        if ann is not None:
            axis.axhline(100 * ann, color=GREY, linestyle="--", label="ANN")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("time step")
        axis.set_ylabel(f"{title} (%)")
        axis.legend(loc="lower right")
    return figure


def _styles(compared: Sequence[Panel]) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each method, the same in all panels."""
    if not compared:
        raise SettingsError("There are no results to draw: name a folder with results of calibrations")
    labels = dict.fromkeys(method.label for panel in compared for method in panel.methods)
    return dict(zip(labels, looks(len(labels)), strict=True))


def _energy(panel: Panel, method: Method, timesteps: int) -> Mean:
    energy = method.mean("energy_ratio", timesteps)
    if energy is None:
        raise SettingsError(f"The energy of {method.label} at T={timesteps} for {panel.title} is missing")
    return energy


def _finish(axis: Axes, panel: Panel) -> None:
    """Draw the ANN's score, and what both figures have in common."""
    anns = [ann for method in panel.methods if (ann := method.ann(panel.score))]
    if anns:
        axis.axhline(100 * anns[0].mean, color=GREY, linestyle="--", label="ANN")
    axis.set_title(panel.title, loc="left", fontweight="bold")
    axis.set_ylabel(f"{panel.score_title} (%)")


def _legend(figure: Figure, axes: list[Axes]) -> None:
    """Name each line once, beside the panels, where no data are hidden."""
    pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes]
    handles = {label: handle for pair in pairs for handle, label in pair}
    order = sorted(handles, key=lambda label: label != "ANN")
    figure.legend([handles[label] for label in order], order, loc="outside right upper")


def _percent(means: Sequence[Mean]) -> tuple[list[float], list[float]]:
    return [100 * mean.mean for mean in means], [100 * (mean.deviation or 0.0) for mean in means]
