"""Calibration of initial membrane potentials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.images import SMALL_SET
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.steps.bias import Bias
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.settings import check_choice, check_flag, check_whole
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron


@register_step
@dataclass(frozen=True)
class Potential(Step):
    """Potential calibration (PC eq. 21-22): `v_init += T * mean over images of (x - rate)`.

    Args:
        images: how many calibration images it uses; None for all (the paper: 128).
        granularity: "neuron" or "channel". Where the input size varies it is "channel" by itself (PC B.4).
        shrink: of fewer than 256 images, draw each neuron's mean error to its channel's, as far as it is no
            more than the chance of so few. The paper doesn't.

    Example:
        >>> from snn_lightning import ACP, calibrate
        >>> pipeline = ACP(timesteps=4, weights=None, potential=Potential(granularity="channel"))
        >>> snn = calibrate(torch.nn.ReLU(), [torch.rand(8, 3, 2, 2)], pipeline, progress=False)
        >>> snn.neurons["relu"].v_init.shape
        torch.Size([3])
    """

    images: int | None = None
    granularity: str = "neuron"
    shrink: bool = True

    def __post_init__(self) -> None:
        check_whole("potential.images", self.images, optional=True)
        check_choice("potential.granularity", self.granularity, ("neuron", "channel"))
        check_flag("potential.shrink", self.shrink)

    def add_work(self, work: Work) -> Work:
        """Count the images that it simulates."""
        return replace(work, corrected=work.corrected + (self.images or work.images))

    def run(self, context: StageContext) -> StepReport:
        """Add T times each neuron's mean error to its potential: `v_init += T * mean (x - rate)`.

        The mean is over the images that are not held out; of few it is shrunk, see `shrunk`.
        On a readout an initial potential of T e and a bias of e are the same; the bias is what changes there.
        """
        neuron = context.unit
        if not isinstance(neuron, IFNeuron):
            return Bias(self.images).run(context)
        sizes = self.granularity == "neuron" and not context.one_size()
        channelwise = self.granularity == "channel" or sizes
        error, total = RelativeError(context.device), torch.zeros((), dtype=torch.float64)
        squares = torch.zeros((), dtype=torch.float64)
        # Held-out images must not be fitted to here either: what comes later would seem to make them worse.
        images = min(context.count(self.images), context.fitted)
        # Copies of an image are no more than the image.
        independent = len(set(context.origins[:images]))
        shrinks = self.shrink and not channelwise and independent < SMALL_SET
        for x, rate in context.simulate(images, hold=True):
            part = error.add(x, rate)
            if channelwise:
                total = total + part
                continue
            lacking = x - rate
            total = total + lacking.sum(0, dtype=torch.float64)
            if shrinks:
                squares = squares + lacking.double().square().sum(0)
        mean = context.communicator.sum(total) / images
        if shrinks:
            mean = shrunk(mean, context.communicator.sum(squares) / images, independent)
        shift = (context.timesteps * mean).to(neuron.v_init.dtype)
        neuron.v_init = per_channel(neuron.v_init, shift[None]) + shift
        details = {"largest": shift.abs().max().item(), **({"channelwise": 1.0} if sizes else {})}
        return StepReport(error.value(context.communicator), details=details)


def shrunk(mean: Tensor, square: Tensor, images: int) -> Tensor:
    """Draw the means of neurons to their channel's mean, by the share of their variance that is chance.

    `m_c + max(0, 1 - v / (images * var(m))) * (m - m_c)`, where v is the mean variance from image to image of
    the channel's neurons and var(m) the variance of their means (the estimator of James and Stein in the form
    of empirical Bayes).

    Args:
        mean: of each neuron over the images, `[C, ...]`.
        square: the mean of the squares, `[C, ...]`.
        images: how many.

    Example:
        >>> mean = torch.tensor([[1.0, 3.0]])
        >>> shrunk(mean, mean.square() + 1, images=3)
        tensor([[1.5000, 2.5000]])
    """
    places = list(range(1, mean.dim()))
    if images < 2 or not places:
        return mean
    centre = mean.mean(places, keepdim=True)
    between = (mean - centre).square().mean(places, keepdim=True)
    chance = (square - mean.square()).mean(places, keepdim=True) / (images - 1)
    kept = (1 - chance / between.clamp(min=torch.finfo(between.dtype).tiny)).clamp(min=0)
    return centre + kept * (mean - centre)
