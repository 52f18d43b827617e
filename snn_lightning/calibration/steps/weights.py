"""Weight calibration: the SGD of one stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.images import count_images
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.steps.held_out import go_back
from snn_lightning.calibration.steps.minibatch_sgd import MinibatchDescent, gradients, own_rows
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.calibration.walk.places import Places
from snn_lightning.graph.operators import traits_of
from snn_lightning.settings import check_interval, check_positive, check_whole
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.units import Readout

POWER_ITERATIONS = 8


@register_step
@dataclass(frozen=True)
class Weights(Step):
    """Weight calibration (PC eq. 23-24): SGD on the squared error between activation and expected rate.

    Args:
        iterations: SGD steps a stage.
        learning_rate: of the loss that is summed over channels and averaged over images and space; None sets
            it from the stage itself, as `step_size` over the largest curvature of that loss.
        step_size: see `learning_rate`.
        momentum: of SGD.
        batch_size: images a step, over all processes.
        images: how many calibration images it uses; None for all. Held-out ones are never fitted to.

    Example:
        >>> from snn_lightning import ACP, calibrate
        >>> ann, loader = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), [torch.rand(8, 2)]
        >>> pipeline = ACP(timesteps=4, weights=Weights(iterations=5, batch_size=4))
        >>> step = calibrate(ann, loader, pipeline, progress=False).records[0]["steps"]["weights"]
        >>> step["after"] <= step["before"]
        True
    """

    holds_out = True
    iterations: int = 100
    learning_rate: float | None = None
    step_size: float = 1.0
    momentum: float = 0.9
    batch_size: int = 32
    images: int | None = None

    def __post_init__(self) -> None:
        check_whole("weights.iterations", self.iterations)
        check_whole("weights.batch_size", self.batch_size)
        check_whole("weights.images", self.images, optional=True)
        check_positive("weights.learning_rate", self.learning_rate, optional=True)
        check_positive("weights.step_size", self.step_size)
        check_interval("weights.momentum", self.momentum, "[0, 1)")

    def add_work(self, work: Work) -> Work:
        """Count the SGD steps, and those of the curvature estimate before them."""
        return replace(
            work,
            iterations=work.iterations + self.iterations,
            batch_size=self.batch_size,
            power_iterations=work.power_iterations + (0 if self.learning_rate else POWER_ITERATIONS),
        )

    def run(self, context: StageContext) -> StepReport:
        """Minimise ||x - expected_rate(W s + b [+ shortcut])||^2 over the stage's weights (PC eq. 23-24).

        s is the simulated mean over time of what enters the stage. The weights go back towards what they were
        as far as the images say that are held out; all the way if they are worse anywhere else.
        """
        try:
            loop = LayerLoop(self, context)
            if not loop.weights:
                return StepReport(float("nan"), details={"synapses": 0.0})
            before, kept = loop.error(), [w.detach().clone() for w in loop.weights]
            losses = loop.run()
            share, after = go_back(loop.weights, kept, loop.error, before, context.holds_out)
        finally:
            context.cache.release()
        context.forget_currents()
        details = {f"loss_{i}": loss for i, loss in losses}
        return StepReport(before, after, {"kept": share, **details})


class LayerLoop:
    """SGD with momentum and cosine decay on one stage; every process works on its share of each mini-batch.

    Args:
        settings: of the step.
        context: the stage.
    """

    def __init__(self, settings: Weights, context: StageContext) -> None:
        self.settings, self.context = settings, context
        network = context.snn.network
        synapses = [network.operators[name] for name in context.stage.operators]
        self.weights = [cast(nn.Parameter, m.weight) for m in synapses if traits_of(m).weighted]
        self.unit = cast("IFNeuron | Readout", context.unit)
        if self.weights:
            self.gathered = context.gathered()
            self.places = Places([part.indices for part in self.gathered])

    def run(self) -> list[tuple[int, float]]:
        """Run all iterations; returns the loss curve as some twenty (iteration, loss) pairs."""
        settings, context = self.settings, self.context
        wanted = count_images("weights", settings.images, context.total, settings.batch_size)
        context.communicator.barrier()
        for weight in self.weights:
            weight.requires_grad_(True)
        try:
            rate = settings.learning_rate or settings.step_size / self.curvature(settings.batch_size)
            optimizer = torch.optim.SGD(self.weights, lr=rate, momentum=settings.momentum)
            name = (f"weight loss of '{context.stage.name}'", "weights.learning_rate (or weights.step_size)")
            descent = MinibatchDescent(
                [optimizer],
                self._loss_and_gradients,
                name,
                context.communicator,
                context.seed,
                context.iteration,
            )
            return descent.run(settings.iterations, settings.batch_size, min(wanted, context.fitted))
        finally:
            for weight in self.weights:
                weight.requires_grad_(False)
                weight.grad = None

    def error(self) -> float:
        """Return the relative error of the expected rate on the images that choose."""
        total = RelativeError(self.context.device)
        for part in self.gathered:
            deciding = (part.indices >= self.context.deciding).nonzero().flatten().to(part.targets.device)
            for rows in deciding.split(self.settings.batch_size):
                total.add(part.targets[rows], self._predict({k: v[rows] for k, v in part.inputs.items()}))
        return total.value(self.context.communicator)

    def curvature(self, images: int) -> float:
        """Return the largest eigenvalue of the loss's Hessian over the weights, by power iteration.

        The current is linear in the weights, so that `J v` is a difference of two currents.
        """
        communicator = self.context.communicator
        batches = [inputs for inputs, _ in self._batches(own_rows(torch.arange(images), communicator))]
        generator = torch.Generator().manual_seed(self.context.seed)
        direction = [torch.randn(w.shape, generator=generator).to(w) for w in self.weights]
        eigenvalue = 0.0
        with torch.no_grad():
            before = [self._current(inputs) for inputs in batches]
        size = 1e-2 * torch.cat([w.flatten() for w in self.weights]).norm().item() or 1.0
        for _ in range(POWER_ITERATIONS):
            flat = torch.cat([d.flatten() for d in direction])
            direction = [d / flat.norm().clamp(min=1e-30) for d in direction]
            with torch.no_grad(), self._moved(direction, size):
                moved = [
                    (self._current(inputs) - old) / size for inputs, old in zip(batches, before, strict=True)
                ]
            flat = torch.zeros_like(flat)
            for inputs, part in zip(batches, moved, strict=True):
                found = gradients(self._current(inputs), self.weights, part)
                flat += torch.cat([g.flatten() for g in found]) * (2.0 / (images * _positions(part)))
            flat = communicator.sum(flat)
            parts = flat.split([w.numel() for w in self.weights])
            direction = [part.view_as(w) for part, w in zip(parts, self.weights, strict=True)]
            eigenvalue = flat.norm().item()
        return max(eigenvalue, 1e-12)

    @contextmanager
    def _moved(self, direction: Sequence[Tensor], size: float) -> Iterator[None]:
        """Move the weights for a while."""
        kept = [w.clone() for w in self.weights]
        for weight, part in zip(self.weights, direction, strict=True):
            weight.add_(part, alpha=size)
        yield
        for weight, old in zip(self.weights, kept, strict=True):
            weight.copy_(old)

    def _loss_and_gradients(self, rows: Tensor) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
        for inputs, target in self._batches(rows):
            difference = (self._predict(inputs) - target).square()
            loss = difference.sum() / (self.settings.batch_size * _positions(difference))
            yield loss, gradients(loss, self.weights)

    def _batches(self, rows: Tensor) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Yield the inputs and targets of some images, those of each size together."""
        for number, _, positions in self.places.split(rows):
            part, positions = self.gathered[number], positions.to(self.context.device)
            yield {key: value[positions] for key, value in part.inputs.items()}, part.targets[positions]

    def _current(self, inputs: Mapping[str, Tensor]) -> Tensor:
        stage = self.context.stage
        return self.context.snn.network.run_operators(stage.operators, inputs)[stage.current]

    def _predict(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.unit.expected_rate(self._current(inputs), self.context.timesteps)


def _positions(current: Tensor) -> int:
    return current.shape[2:].numel()
