"""Threshold and initial potential of each channel by the error of the simulated neurons."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.walk.context import StageContext, StepReport
from snn_lightning.errors import SettingsError
from snn_lightning.settings import check_whole, is_number
from snn_lightning.spiking import kernels
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron

SLACK = 1e-9
"""Errors that differ by less, in parts of ||x||^2, count as equal: sums over processes round differently."""


@register_step
@dataclass(frozen=True)
class NeuronSearch(Step):
    """Choose threshold and initial potential by simulation: `argmin ||rate(f v_th, p f v_th) - x||^2`.

    The candidates are all pairs of a factor f and a fraction p, for each channel by itself (for the whole
    layer, if its threshold is layer-wise), and the parameters that the neuron already has, which it keeps
    unless another pair is better. MMSE thresholds do the same on the ANN's activations; here the currents
    come unevenly, as they do. The maximum and percentiles of the activations are within the grid: MMSE finds
    a threshold below the maximum, and factors above 1 lead up to it.

    An initial potential of one value a neuron keeps what each neuron has more or less than its channel's
    mean; the mean is what is searched. Biases stay: with rounding "bias", which has put half a step there,
    fractions around 0 are what fits.

    Args:
        factors: on the threshold that was found before; the site's cap stays an upper bound.
        potentials: initial potentials as fractions of the candidate threshold.
        images: how many calibration images it uses; None for all.

    Example:
        >>> from snn_lightning import LCP, calibrate
        >>> pipeline = LCP(timesteps=4, search=NeuronSearch(factors=(0.8, 1.0, 1.2), potentials=(0.4, 0.5)))
        >>> snn = calibrate(torch.nn.ReLU(), [torch.rand(8, 2)], pipeline, progress=False)
        >>> step = snn.records[0]["steps"]["neuron_search"]
        >>> step["after"] <= step["before"]
        True
    """

    factors: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)
    potentials: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    images: int | None = None

    def __post_init__(self) -> None:
        for name in ("factors", "potentials"):
            # YAML gives lists.
            object.__setattr__(self, name, _numbers(f"search.{name}", getattr(self, name)))
        if min(self.factors) <= 0:
            raise SettingsError(f"search.factors must be above 0, got {list(self.factors)}")
        check_whole("search.images", self.images, optional=True)

    @property
    def candidates(self) -> int:
        """Simulations of the neurons, that of the present parameters included."""
        return 1 + len(self.factors) * len(self.potentials)

    def add_work(self, work: Work) -> Work:
        """Count the images it simulates, and again, neurons alone, for each candidate."""
        images = self.images or work.images
        searched = work.searched + images * (self.candidates - 1)
        return replace(work, corrected=work.corrected + images, searched=searched)

    @torch.no_grad()
    def run(self, context: StageContext) -> StepReport:
        """Set the neuron's threshold and initial potential to the candidate of least squared error.

        Returns:
            The simulated relative errors before and after, and the part of the thresholds whose pair has
            changed; NaN on a readout, which has neither.
        """
        neuron = context.unit
        if not isinstance(neuron, IFNeuron):
            return StepReport(float("nan"))
        cap = context.snn.network.nodes[context.stage.name].settings["cap"]
        candidates = list(_candidates(self, neuron, cap))
        sums = self._squared_errors(candidates, neuron, context)
        errors, norm = sums[:-1], sums[-1]
        # The first of the best: the present parameters, if they are among them.
        best = (errors <= errors.amin(0) + SLACK * norm).to(torch.uint8).argmax(0, keepdim=True)
        before, after, scale = (part.sum().item() for part in (errors[0], errors.gather(0, best), norm))
        chosen = best.view(1, *neuron.v_th.shape)
        v_th, shift = (torch.stack(list(p)).gather(0, chosen)[0] for p in zip(*candidates, strict=True))
        neuron.v_th, neuron.v_init = v_th, _shifted(neuron.v_init, shift)
        changed = {"changed": best.count_nonzero().item() / best.numel()}
        if scale == 0:
            return StepReport(float(before > 0), float(after > 0), changed)
        return StepReport(before / scale, after / scale, changed)

    def _squared_errors(
        self, candidates: Sequence[tuple[Tensor, Tensor]], neuron: IFNeuron, context: StageContext
    ) -> Tensor:
        """Return ||x - rate||^2 of each candidate, and ||x||^2 in the last row, a column a threshold."""
        rows = neuron.v_th.numel()
        sums = torch.zeros(len(candidates) + 1, rows, dtype=torch.float64, device=context.device)
        trial = copy.deepcopy(neuron)
        for i, inside in context.chunks(self.images):
            if not inside:
                continue
            x = context.activations[i].get()[:inside]
            norm = kernels.maxima_and_squares(x)[1]
            sums[-1] += norm if rows > 1 else norm.sum()
            with context.held(i):
                for row, (v_th, shift) in zip(sums, candidates, strict=False):
                    trial.v_th, trial.v_init = v_th, _shifted(neuron.v_init, shift)
                    rate = sum(e.total for e in context.emit(i, keep=False, unit=trial)) / context.steps
                    _, squares, _ = kernels.error_sums(x, cast(Tensor, rate)[:inside])
                    row += squares if rows > 1 else squares.sum()
        return context.communicator.sum(sums)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """Return `values` as a tuple.

    Raises:
        SettingsError: they are not finite numbers, or none.
    """
    result = tuple(values) if isinstance(values, Iterable) else ()
    if not result or not all(map(is_number, result)):
        raise SettingsError(f"{name} must be a list of finite numbers, got {values!r}")
    return result


def _candidates(
    settings: NeuronSearch, neuron: IFNeuron, cap: float | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs of a threshold and a shift of the initial potential, the present parameters first."""
    v_th, v_init = neuron.v_th, neuron.v_init
    mean = v_init.flatten(1).mean(1) if v_th.dim() and v_init.dim() > 1 else v_init
    mean = mean if v_th.dim() else mean.mean()
    yield v_th, torch.zeros_like(v_th)
    tried: list[Tensor] = []
    for factor in settings.factors:
        scaled = factor * v_th
        scaled = scaled if cap is None else scaled.clamp(max=cap / neuron.highest)
        # Above the cap all are the same.
        if not any(torch.equal(scaled, other) for other in tried):
            tried.append(scaled)
            yield from ((scaled, potential * scaled - mean) for potential in settings.potentials)


def _shifted(v_init: Tensor, shift: Tensor) -> Tensor:
    """Return `v_init`, `[]`, `[C]` or `[C, ...]`, and `shift`, `[]` or `[C]`, added up."""
    return v_init + per_channel(shift, v_init[None])
