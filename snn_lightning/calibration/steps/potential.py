"""Calibration of initial membrane potentials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.steps.bias import Bias
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.errors import CalibrationError
from snn_lightning.settings import check_choice, check_whole
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron


@register_step
@dataclass(frozen=True)
class Potential(Step):
    """Potential calibration (PC eq. 21-22): `v_init += T * mean over images of (x - rate)`.

    Args:
        images: how many calibration images it uses; None for all (the paper: 128).
        granularity: "neuron", or "channel" where the input size varies (PC B.4).

    Example:
        >>> from snn_lightning import ACP, calibrate
        >>> pipeline = ACP(timesteps=4, weights=None, potential=Potential(granularity="channel"))
        >>> snn = calibrate(torch.nn.ReLU(), [torch.rand(8, 3, 2, 2)], pipeline, progress=False)
        >>> snn.neurons["relu"].v_init.shape
        torch.Size([3])
    """

    images: int | None = None
    granularity: str = "neuron"

    def __post_init__(self) -> None:
        check_whole("potential.images", self.images, optional=True)
        check_choice("potential.granularity", self.granularity, ("neuron", "channel"))

    def add_work(self, work: Work) -> Work:
        """Count the images that it simulates."""
        return replace(work, corrected=work.corrected + (self.images or work.images))

    def run(self, context: StageContext) -> StepReport:
        """Add T times each neuron's mean error to its potential: `v_init += T * mean (x - rate)`.

        On a readout an initial potential of T e and a bias of e are the same; the bias is what changes there.
        """
        neuron = context.unit
        if not isinstance(neuron, IFNeuron):
            return Bias(self.images).run(context)
        error, total = RelativeError(context.device), None
        for x, rate in context.simulate(self.images, hold=True):
            part = error.add(x, rate)
            if self.granularity == "neuron":
                part = (x - rate).sum(0, dtype=torch.float64)
            if total is not None and total.shape != part.shape:
                raise _sizes_differ(context, part)
            total = part if total is None else total + part
        assert total is not None
        if context.communicator.broadcast(tuple(total.shape)) != tuple(total.shape):
            raise _sizes_differ(context, total)
        mean = context.communicator.sum(total) / context.count(self.images)
        shift = (context.timesteps * mean).to(neuron.v_init.dtype)
        neuron.v_init = per_channel(neuron.v_init, shift[None]) + shift
        return StepReport(error.value(context.communicator), details={"largest": shift.abs().max().item()})


def _sizes_differ(context: StageContext, part: Tensor) -> CalibrationError:
    return CalibrationError(
        f"The activation at '{context.stage.name}' has shape {tuple(part.shape)} on some images and another "
        "on others: the calibration images differ in size. Use potential.granularity=channel."
    )
