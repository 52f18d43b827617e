"""Firing thresholds from the ANN's activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.context import StageContext, StepReport
from snn_lightning.graph.ir import Node
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.thresholds import Histogram, Threshold, histogram, row_maximum, squared_errors


def per_spike(largest: Tensor, channelwise: bool, neuron: IFNeuron) -> Tensor:
    """Return the threshold `[C]` or `[]` with which a neuron's largest rate is `largest`, `[C]` or `[1]`."""
    return (largest if channelwise else largest[0]) / neuron.highest


def set_threshold(
    neuron: IFNeuron,
    threshold: Threshold,
    rounding: str,
    timesteps: int,
    site: Node,
    activations: Callable[[], Iterable[Tensor]],
    communicator: Communicator,
) -> tuple[Histogram, Tensor]:
    """Set a neuron's threshold from the ANN's activations, and potential and bias as `rounding` wants.

    Args:
        neuron: of the site.
        threshold: how to find it.
        rounding: see `IFNeuron`.
        timesteps: T.
        site: that the neuron takes the place of.
        activations: gives this process's activations there, chunks `[n, C, ...]`; called twice.
        communicator: connects the processes.

    Returns:
        The activations of all processes, and the largest rate of each row, `[R]`, activation units.
    """
    channelwise = threshold.channelwise
    # k spikes a step have the levels of k T steps at k times the threshold: the largest rate is searched.
    levels = timesteps * neuron.highest
    maximum = communicator.max(row_maximum(activations(), channelwise))
    counts = histogram(activations(), maximum, channelwise, threshold.bins(levels))
    counts = Histogram(maximum, *(communicator.sum(part) for part in counts.parts()))
    half_step, name = rounding != "floor", site.path or site.name
    largest = threshold.at_site(counts, levels, half_step, site.settings["cap"], name)
    neuron.set_threshold(per_spike(largest, channelwise, neuron), rounding, timesteps)
    return counts, largest


def calibrate_threshold(threshold: Threshold, rounding: str, context: StageContext) -> StepReport:
    """Set the threshold of a stage's neuron; see `set_threshold`.

    Returns:
        The quantisation error (no input error) with the largest activation as the largest rate, and with the
        chosen one.
    """
    neuron, site = context.unit, context.snn.network.nodes[context.stage.name]
    assert isinstance(neuron, IFNeuron)

    def activations() -> Iterable[Tensor]:
        return (x.get() for x in context.activations)

    counts, largest = set_threshold(
        neuron, threshold, rounding, context.timesteps, site, activations, context.communicator
    )
    norm = counts.second.sum().item()
    if norm == 0:
        return StepReport(0.0, 0.0)
    maximum = counts.maximum.double().clamp(min=torch.finfo(torch.float32).tiny)
    fractions = torch.stack([torch.ones_like(maximum), (largest.double() / maximum).clamp(max=1)], dim=1)
    levels = context.timesteps * neuron.highest
    errors = squared_errors(counts, fractions, levels, rounding != "floor").sum(0) / norm
    return StepReport(errors[0].item(), errors[1].item())
