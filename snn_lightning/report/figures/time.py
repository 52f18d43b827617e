"""Figures of what neurons do over time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from snn_lightning.analysis.potentials import PotentialTraces
from snn_lightning.errors import SettingsError
from snn_lightning.report.style import BLUE, GREY, VERMILION, looks, panels, styled
from snn_lightning.settings import check_whole


def plot_spikes(trains: Mapping[str, Tensor], image: int = 0, neurons: int = 40) -> Figure:
    """Draw the spikes of some neurons of each site, a row a neuron.

    Of a site with more neurons than that it shows some at equal distances. A spike that is taken back (of
    signed neurons) is a cross.

    Args:
        trains: of the sites to show, from `SpikingModel.spikes`, `[T, N, C, ...]`.
        image: which one of the N.
        neurons: most rows a site.

    Raises:
        SettingsError: there is no site or no such image, or `neurons` makes no sense.

    Example:
        >>> figure = plot_spikes({"relu": torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)})
        >>> figure.axes[0].get_xlabel()
        'time step'
    """
    check_whole("neurons", neurons)
    if not trains:
        raise SettingsError("plot_spikes needs the spike train of at least one site")
    images = min(train.shape[1] for train in trains.values())
    check_whole("image", image, least=0, most=images - 1)
    with styled():
        rows = [_rows(train[:, image], neurons) for train in trains.values()]
        counts = [part.shape[1] for part in rows]
        figure, (axis,) = panels(9, 1.2 + max(1.6, min(6.0, 0.09 * sum(counts))))
        start, centres, width = 0, [], min(4.0, max(1.0, 250 / len(rows[0])))
        for (colour, _), part in zip(looks(len(rows)), rows, strict=True):
            steps, places = np.nonzero(part > 0)
            axis.vlines(steps + 1, places + start - 0.4, places + start + 0.4, colors=colour, linewidth=width)
            steps, places = np.nonzero(part < 0)
            if len(steps):
                axis.plot(steps + 1, places + start, "x", color=colour, markersize=5)
            centres.append(start + (part.shape[1] - 1) / 2)
            start += part.shape[1]
            if start < sum(counts):
                axis.axhline(start - 0.5, color=GREY, linewidth=0.7)
        timesteps = len(rows[0])
        axis.set_yticks(centres, [f"{name}" for name in trains])
        axis.tick_params(axis="y", length=0)
        axis.set_xlim(0.4, timesteps + 0.6)
        axis.set_ylim(sum(counts) - 0.5, -0.5)
        axis.grid(False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("time step")
        axis.set_ylabel("neurons by site")
    return figure


def _rows(train: Tensor, neurons: int) -> np.ndarray:
    """Return the signs of the spikes `[T, n]` of at most `neurons` neurons."""
    flat = train.detach().flatten(1).cpu()
    chosen = torch.linspace(0, flat.shape[1] - 1, min(neurons, flat.shape[1])).round().long()
    return flat[:, chosen].sign().numpy()


def plot_potentials(traces: PotentialTraces) -> Figure:
    """Draw the membrane potentials of some neurons over time, with their thresholds and spikes.

    At each time step the current comes, and where the potential reaches the threshold a spike takes that off.

    Args:
        traces: from `analysis.potentials.membrane_potentials`.

    Example:
        >>> from snn_lightning import convert
        >>> from snn_lightning.analysis.potentials import membrane_potentials
        >>> snn = convert(torch.nn.ReLU(), torch.tensor([[1.0]]), timesteps=4)
        >>> figure = plot_potentials(membrane_potentials(snn, torch.tensor([[0.5]]), "relu", [0]))
        >>> figure.axes[0].get_title(loc="left")
        'neuron 0 of relu'
    """
    timesteps, count = traces.before.shape
    with styled():
        figure, axes = panels(9, 1.0 + 2.1 * count, rows=count, sharex=True)
        steps = np.arange(1, timesteps + 1)
        for number, (axis, neuron) in enumerate(zip(axes, traces.neurons, strict=True)):
            before, after = traces.before[:, number].numpy(), traces.after[:, number].numpy()
            saw = np.stack([before, after], 1).flatten()
            times = np.concatenate([[0], steps.repeat(2)])
            axis.plot(times, np.concatenate([[traces.start[number]], saw]), color=BLUE, label="potential")
            axis.axhline(traces.threshold[number].item(), color=GREY, linestyle="--", label="threshold")
            fired = traces.spikes[:, number].numpy() != 0
            axis.plot(steps[fired], before[fired], "v", color=VERMILION, label="spike")
            axis.set_title(f"neuron {neuron} of {traces.site}", loc="left")
            axis.set_xlim(0, timesteps + 0.3)
        figure.supylabel("membrane potential (activation units)", fontsize="medium")
        axes[0].legend(loc="lower left", bbox_to_anchor=(0.45, 0.98), ncols=3, borderaxespad=0.2)
        axes[-1].set_xlabel("time step")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
