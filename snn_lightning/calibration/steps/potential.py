"""Calibration of initial membrane potentials."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.calibration.pipelines import Bias, Potential
from snn_lightning.calibration.steps.bias import calibrate_bias
from snn_lightning.calibration.steps.registry import register_step
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.errors import CalibrationError
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron


@register_step(Potential)
def calibrate_potential(settings: Potential, context: StageContext) -> StepReport:
    """Add T times each neuron's mean error to its potential: `v_init += T * mean (x - rate)` (PC eq. 21-22).

    On a readout an initial potential of T e and a bias of e are the same; the bias is what changes there.
    """
    neuron = context.unit
    if not isinstance(neuron, IFNeuron):
        return calibrate_bias(Bias(settings.images), context)
    error, total = RelativeError(context.device), None
    for x, rate in context.simulate(settings.images, hold=True):
        part = error.add(x, rate)
        if settings.granularity == "neuron":
            part = (x - rate).sum(0, dtype=torch.float64)
        if total is not None and total.shape != part.shape:
            raise _sizes_differ(context, part)
        total = part if total is None else total + part
    assert total is not None
    if context.communicator.broadcast(tuple(total.shape)) != tuple(total.shape):
        raise _sizes_differ(context, total)
    mean = context.communicator.sum(total) / context.count(settings.images)
    shift = (context.timesteps * mean).to(neuron.v_init.dtype)
    neuron.v_init = per_channel(neuron.v_init, shift[None]) + shift
    return StepReport(error.value(context.communicator), details={"largest": shift.abs().max().item()})


def _sizes_differ(context: StageContext, part: Tensor) -> CalibrationError:
    return CalibrationError(
        f"The activation at '{context.stage.name}' has shape {tuple(part.shape)} on some images and another "
        "on others: the calibration images differ in size. Use potential.granularity=channel."
    )
