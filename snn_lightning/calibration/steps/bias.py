"""Bias calibration."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from snn_lightning.calibration.pipelines import Bias
from snn_lightning.calibration.steps.registry import register_step
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.units import Readout


@register_step(Bias)
def calibrate_bias(settings: Bias, context: StageContext) -> StepReport:
    """Add the mean error of each channel to its bias: `b_c += mean (x - rate)` (PC eq. 19-20).

    The rate is simulated; x - rate is the whole error at the site, the input's error included. Each repeat
    simulates the neurons anew, with the bias of the one before.
    """
    unit, before = context.unit, float("nan")
    assert isinstance(unit, IFNeuron | Readout)
    shift: Tensor | float = 0.0
    # A readout is linear: its first correction is the last.
    for repeat in range(settings.repeats if isinstance(unit, IFNeuron) else 1):
        error, total = RelativeError(context.device), None
        for x, rate in context.simulate(settings.images, hold=True):
            part = error.add(x, rate)
            total = part if total is None else total + part
        assert total is not None
        mean = context.communicator.sum(total) / context.count(settings.images)
        unit.bias, shift = unit.bias + mean.to(unit.bias.dtype), shift + mean
        before = error.value(context.communicator) if repeat == 0 else before
    return StepReport(before, details={"largest": cast(Tensor, shift).abs().max().item()})
