"""Threshold balancing: thresholds from the currents that the spiking network itself receives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.steps.threshold import per_spike
from snn_lightning.calibration.walk.context import StageContext, StepReport
from snn_lightning.settings import check_positive
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.thresholds import positive, row_maximum


@register_step
@dataclass(frozen=True)
class Balance(Step):
    """Threshold balancing (Spike-Norm, Sengupta et al. 2019): `v_th := scale * max z(t)`.

    The maximum is over neurons, time steps and images; z(t) is the simulated current, the synapses' bias
    included, with all earlier stages spiking. There is one maximum for the layer or one a channel, whichever
    way the pipeline's threshold is.

    Args:
        scale: factor on the largest current.

    Example:
        >>> from snn_lightning import SpikeNorm, calibrate
        >>> pipeline = SpikeNorm(timesteps=4, balance=Balance(scale=0.75))
        >>> snn = calibrate(torch.nn.ReLU(), [torch.tensor([[0.5, 2.0]])], pipeline, progress=False)
        >>> snn.neurons["relu"].v_th
        tensor(1.5000)
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive("balance.scale", self.scale)

    def run(self, context: StageContext) -> StepReport:
        """Set the neuron's threshold from its simulated current; what depends on it grows in proportion.

        Spikes have the value v_th here, so that currents, and their maximum, are on the ANN's scale in every
        layer. The paper's spikes have the value 1 and its currents are those over the threshold of the layer
        before, so that its threshold is the ratio of the two layers' and its network fires the same.
        """
        neuron = context.unit
        if not isinstance(neuron, IFNeuron):
            return StepReport(float("nan"))
        channelwise = neuron.v_th.dim() == 1
        largest = context.communicator.max(row_maximum(_images(context), channelwise))
        cap = context.snn.network.nodes[context.stage.name].settings["cap"]
        v_th = per_spike(positive(self.scale * largest, cap), channelwise, neuron)
        ratio = v_th / neuron.v_th
        neuron.v_th, neuron.bias = v_th, neuron.bias * ratio
        neuron.v_init = neuron.v_init * per_channel(ratio, neuron.v_init[None])
        return StepReport(float("nan"), details={"largest": largest.max().item()})


@torch.no_grad()
def _images(context: StageContext) -> Iterator[Tensor]:
    """Yield all currents as if every time step were an image, `[steps * n, C, ...]`."""
    for current in context.currents():
        yield current.flatten(0, 1)
