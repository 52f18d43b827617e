"""Bias calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.settings import check_whole
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.units import Readout


@register_step
@dataclass(frozen=True)
class Bias(Step):
    """Bias calibration (PC eq. 19-20): `b_c += mean over images and space of (x - rate)`.

    A bias moves the spikes, and the mean error with them, by more or less than itself; repeats come closer.

    Args:
        images: how many calibration images it uses; None for all (the paper: 128).
        repeats: how often it simulates and corrects (the paper: once).

    Example:
        >>> import torch
        >>> from snn_lightning import LCP, calibrate
        >>> pipeline = LCP(timesteps=4, bias=Bias(repeats=2))
        >>> snn = calibrate(torch.nn.ReLU(), [torch.rand(8, 2)], pipeline, progress=False)
        >>> sorted(snn.records[0]["steps"]["bias"])
        ['after', 'before', 'largest']
    """

    images: int | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        check_whole("bias.images", self.images, optional=True)
        check_whole("bias.repeats", self.repeats)

    def add_work(self, work: Work) -> Work:
        """Count the images that each repeat simulates."""
        return replace(work, corrected=work.corrected + self.repeats * (self.images or work.images))

    def run(self, context: StageContext) -> StepReport:
        """Add the mean error of each channel to its bias: `b_c += mean (x - rate)` (PC eq. 19-20).

        The rate is simulated; x - rate is the whole error at the site, the input's error included. Each
        repeat simulates the neurons anew, with the bias of the one before.
        """
        unit, before = context.unit, float("nan")
        assert isinstance(unit, IFNeuron | Readout)
        shift: Tensor | float = 0.0
        # A readout is linear: its first correction is the last.
        for repeat in range(self.repeats if isinstance(unit, IFNeuron) else 1):
            error, total = RelativeError(context.device), None
            for x, rate in context.simulate(self.images, hold=True):
                part = error.add(x, rate)
                total = part if total is None else total + part
            assert total is not None
            mean = context.communicator.sum(total) / context.count(self.images)
            unit.bias, shift = unit.bias + mean.to(unit.bias.dtype), shift + mean
            before = error.value(context.communicator) if repeat == 0 else before
        return StepReport(before, details={"largest": cast(Tensor, shift).abs().max().item()})
