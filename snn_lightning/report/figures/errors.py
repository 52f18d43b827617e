"""Figures of errors: of channels along the network, and of thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    label_sites,
    looks,
    panels,
    site_size,
    styled,
)
from snn_lightning.thresholds.errors import ThresholdErrors


def plot_channel_errors(errors: Mapping[str, Mapping[str, Tensor]], log: bool = True) -> Figure:
    """Draw the relative error of the channels of each site as boxes (PC Fig. 2; of several SNNs, Fig. 5).

    Boxes are quartiles, whiskers the 5th and the 95th percentile, the line the median and the triangle the
    mean. The SNNs are one above the other, on the same axes.

    Args:
        errors: by the SNN's label, such as "lcp", what `analysis.channels.channel_errors` gives for it.
        log: whether the errors are on a logarithmic axis.

    Raises:
        SettingsError: there is none, an error is not finite, or the SNNs have different sites.

    Example:
        >>> import torch
        >>> figure = plot_channel_errors({"baseline": {"relu": torch.tensor([0.1, 0.4])}})
        >>> figure.axes[0].get_ylabel()
        'relative error of a channel'
    """
    names = _sites("plot_channel_errors", errors)
    for label, sites in errors.items():
        for site, values in sites.items():
            if not (len(values) and values.isfinite().all()):
                raise SettingsError(
                    f"The errors of '{site}' of '{label}' must be one or more finite numbers, one a channel"
                )
    with styled():
        width, height = site_size(names, 0.9 + 2.7 * len(errors))
        figure, axes = panels(width, height, rows=len(errors), sharex=True, sharey=True)
        places = [float(place) for place in range(1, len(names) + 1)]
        for axis, (label, sites) in zip(axes, errors.items(), strict=True):
            _boxes(axis, places, list(sites.values()))
            axis.set_yscale("log" if log else "linear")
            axis.set_title(label, loc="left", fontweight="bold")
            axis.axhline(1.0, color=GREY, linestyle=":", linewidth=1.2)
            axis.set_ylabel("relative error of a channel" if len(axes) == 1 else "relative error")
            axis.tick_params(axis="x", length=0)
            axis.set_xlim(0.4, len(names) + 0.6)
        axes[0].legend(*_key(), loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.2)
        label_sites(axes[-1], names, places)
        axes[-1].set_xlabel("site")
    return figure


def _sites(function: str, errors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the sites that all SNNs have in common, or refuse."""
    if not errors or not all(errors.values()):
        raise SettingsError(f"{function} needs at least one SNN with at least one site")
    names = list(next(iter(errors.values())))
    for label, sites in errors.items():
        if list(sites) != names:
            raise SettingsError(f"The sites of '{label}' are others than those of '{next(iter(errors))}'")
    return names


def _key() -> tuple[list[Line2D], list[str]]:
    median = Line2D([], [], color=ORANGE, linewidth=2.2)
    mean = Line2D([], [], color=GREEN, marker="^", linestyle="")
    return [median, mean, Line2D([], [], color=BLUE)], ["median", "mean", "5 to 95 %"]


def _boxes(axis: Axes, places: list[float], channels: list[Tensor]) -> None:
    """Draw boxes from plain shapes: `Axes.bxp` reads every setting of matplotlib, which imports pyplot."""
    numbers = [values.detach().double().cpu().numpy() for values in channels]
    low, q1, median, q3, high = np.array([np.percentile(values, [5, 25, 50, 75, 95]) for values in numbers]).T
    left, right = np.array(places) - 0.3, np.array(places) + 0.3
    axis.use_sticky_edges = False  # else the lowest box would end the axis, whatever lies below it
    axis.vlines(places, low, q1, colors=BLUE)
    axis.vlines(places, q3, high, colors=BLUE)
    for ends in (low, high):
        axis.hlines(ends, left + 0.15, right - 0.15, colors=BLUE)
    axis.bar(places, q3 - q1, 0.6, bottom=q1, facecolor="#CFE3F1", edgecolor=BLUE, linewidth=1.2)
    axis.hlines(median, left, right, colors=ORANGE, linewidth=2.2, zorder=3)
    axis.plot(places, [values.mean() for values in numbers], "^", color=GREEN, zorder=4)


def plot_site_errors(errors: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the relative error of each site of one or several SNNs, such as before and after calibration.

    Args:
        errors: by the SNN's label, such as "lcp", the error of each site, as `stage.total` of
            `analysis.mismatch.measure_mismatch` is.

    Raises:
        SettingsError: there is none, an error is not finite, or the SNNs have different sites.

    Example:
        >>> figure = plot_site_errors({"before": {"relu": 0.4}, "after": {"relu": 0.1}})
        >>> [float(line.get_ydata()[0]) for line in figure.axes[0].lines]
        [0.4, 0.1]
    """
    names = _sites("plot_site_errors", errors)
    for label, sites in errors.items():
        for site, error in sites.items():
            if not np.isfinite(error):
                raise SettingsError(
                    f"The error of '{site}' of '{label}' must be a finite number, got {error}"
                )
    with styled():
        figure, (axis,) = panels(*site_size(names, 3.9))
        places = [float(place) for place in range(len(names))]
        for (colour, marker), (label, sites) in zip(looks(len(errors)), errors.items(), strict=True):
            axis.plot(places, list(sites.values()), marker=marker, color=colour, label=label)
        axis.set_yscale("log")
        axis.set_ylabel("relative error")
        axis.set_xlabel("site")
        label_sites(axis, names, places)
        if len(errors) > 1:
            axis.legend()
    return figure


def plot_threshold_errors(found: ThresholdErrors) -> Figure:
    """Draw the error of a site against its threshold, and what each way of choosing chooses (PC Fig. 4).

    Args:
        found: from `thresholds.errors.threshold_errors`.

    Example:
        >>> import torch
        >>> from snn_lightning.thresholds.errors import threshold_errors
        >>> figure = plot_threshold_errors(threshold_errors(torch.rand(8, 4), timesteps=[2, 8]))
        >>> [axis.get_xlabel() for axis in figure.axes]
        ['threshold (activation units)', 'time steps T']
    """
    with styled():
        figure, (left, right) = panels(11, 4.6, columns=2)
        steps = list(found.errors)
        for (colour, marker), t in zip(looks(len(steps)), steps, strict=True):
            errors = found.errors[t].numpy()
            left.plot(found.thresholds.numpy(), errors, color=colour, label=f"T={t}")
            least = int(np.abs(found.thresholds.numpy() - found.mmse[t]).argmin())
            left.plot([found.mmse[t]], [errors[least]], marker, color=colour, markersize=9)
            end = (found.maximum, errors[-1])
            left.annotate(f"T={t}", end, (6, 0), textcoords="offset points", va="center", color=colour)
        percentile = f"{found.percent:g}th percentile"
        for value, style in ((found.maximum, "--"), (found.percentile, ":")):
            left.axvline(value, color=GREY, linestyle=style)
        left.set_yscale("log")
        left.set_xlim(0, 1.18 * found.maximum)
        left.set_xlabel("threshold (activation units)")
        left.set_ylabel("mean squared error\n(activation units²)")
        ordered = sorted(steps)
        right.plot(ordered, [found.mmse[t] for t in ordered], "o-", color=BLUE, label="least error (MMSE)")
        right.axhline(found.percentile, color=GREY, linestyle=":", label=percentile)
        right.axhline(found.maximum, color=GREY, linestyle="--", label="maximum")
        right.set_xscale("log", base=2)
        right.set_xticks(ordered, [str(t) for t in ordered])
        right.minorticks_off()
        right.set_ylim(0, 1.3 * found.maximum)
        right.set_xlabel("time steps T")
        right.set_ylabel("threshold (activation units)")
        right.legend(loc="upper left")
    return figure
