"""The last step: the whole spiking network learns the ANN's output, through its simulated spikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.augmentation import generator_of
from snn_lightning.calibration.images import count_images
from snn_lightning.calibration.steps.base import FinalStep, register_step
from snn_lightning.calibration.steps.held_out import go_back
from snn_lightning.calibration.steps.minibatch_sgd import MinibatchDescent, gradients
from snn_lightning.calibration.steps.muon import Muon
from snn_lightning.calibration.walk.context import StepReport
from snn_lightning.calibration.walk.network_context import NetworkContext
from snn_lightning.calibration.walk.places import alike
from snn_lightning.graph.ir import INPUT
from snn_lightning.graph.operators import groups_of, traits_of
from snn_lightning.graph.precision import PRECISIONS
from snn_lightning.settings import check_choice, check_positive, check_whole
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron

SMALLEST = 0.1
"""No threshold falls below this part of what it was."""

ORTHOGONAL = 0.3
"""How far Muon moves a weight, in units of `step_size`; Adam's steps are up to 1."""


@register_step
@dataclass(frozen=True)
class Distillation(FinalStep):
    """The whole SNN learns the ANN's outputs on the calibration images, without labels, through its spikes.

    `min ||ANN - SNN||^2 / ||ANN||^2` over all weights, biases, thresholds and potentials, with surrogate
    gradients through all time steps: weight matrices by Muon, all else by Adam. Under a pipeline with
    `augment` every mini-batch is of new copies, and of what the ANN gives for them.

    Args:
        iterations: steps; None for what `iterations_at` says: 400, more at very few time steps, for networks
            with depthwise convolutions, and where a step costs less.
        batch_size: images a step, over all processes.
        step_size: how far a step moves a weight, in units of its tensor's mean size; Muon takes 0.3 of it,
            and the neurons' parameters move a fifth of it, in thresholds.
        images: how many calibration images it uses; None for all. Held-out ones are never fitted to.
        precision: of the synapses while it learns; None for the pipeline's. "bf16" is faster where the
            processor multiplies in it.

    Example:
        >>> from snn_lightning import Best, calibrate
        >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
        >>> pipeline = Best(timesteps=2, distillation=Distillation(iterations=5, batch_size=4))
        >>> snn = calibrate(ann, [torch.rand(8, 2)], pipeline, progress=False)
        >>> step = snn.records[-1]["steps"]["distillation"]
        >>> step["after"] <= step["before"]
        True
    """

    needs_surrogate = True
    holds_out = True
    iterations: int | None = None
    batch_size: int = 32
    step_size: float = 0.01
    images: int | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        check_whole("distillation.iterations", self.iterations, optional=True)
        check_whole("distillation.batch_size", self.batch_size)
        check_whole("distillation.images", self.images, optional=True)
        check_positive("distillation.step_size", self.step_size)
        if self.precision is not None:
            check_choice("distillation.precision", self.precision, PRECISIONS)

    def iterations_at(self, timesteps: int, simulated_steps: int, depthwise: bool = False) -> int:
        """Return the number of steps at T time steps.

        If nothing is said 400, or 1200 in networks with depthwise convolutions, whose neurons get few spikes.
        1600 / T where that is more, and 16 / T of it at T > 16, at least 100, so that it costs no more. Where
        one step stands for a window, which costs less (`ParallelNeuron`), 1200.

        Args:
            timesteps: T.
            simulated_steps: how many of them are simulated.
            depthwise: whether the network has depthwise or grouped convolutions.
        """
        if self.iterations is not None:
            return self.iterations
        if simulated_steps < timesteps:
            return 1200
        most = 1200 if depthwise else 400
        return max(100, round(max(1600 / timesteps, min(most, 16 * most / timesteps))))

    def add_work(self, work: Work) -> Work:
        """Count the images of all mini-batches, and the steps."""
        steps = self.iterations_at(work.timesteps, work.steps)
        images = work.distilled + steps * self.batch_size
        return replace(work, distilled=images, distilled_steps=work.distilled_steps + steps)

    def run(self, context: NetworkContext) -> StepReport:
        """Minimise ||ANN - SNN||^2 / ||ANN||^2 of the outputs over all parameters.

        The SNN is simulated, and the gradient passes through its spikes by a surrogate; see
        `spiking.surrogate`. Everything goes back towards what it was as far as the images say that are held
        out.
        """
        loop = NetworkLoop(self, context)
        before = loop.error()
        with loop.training() as parameters:
            kept = [p.detach().clone() for p in parameters]
            with loop.in_precision():
                losses = loop.run()
            share, after = go_back(parameters, kept, loop.error, before, context.holds_out)
        details = {f"loss_{i}": loss for i, loss in losses}
        return StepReport(before, after, {"kept": share, **details})


class NetworkLoop:
    """Muon and Adam on the whole spiking network.

    Args:
        settings: of the step.
        context: the network.
    """

    def __init__(self, settings: Distillation, context: NetworkContext) -> None:
        self.settings, self.context = settings, context
        self.leaves = list(context.ann.schedule.outputs)
        self.generator = generator_of(context.seed)
        with torch.no_grad():
            parts = [self._ann(entry.get()) for entry in context.images]
        # A tuple of chunks for each output.
        self.targets = list(zip(*parts, strict=True))
        squares = [_squared_norm(target) for target in self.targets]
        # The mean square of an image's outputs, so that the loss is a relative error.
        norm = context.communicator.sum(torch.stack(squares)) / context.total
        self.norms = [max(n, torch.finfo(torch.float32).tiny) for n in norm.tolist()]

    def run(self) -> list[tuple[int, float]]:
        """Run all iterations; returns the loss curve as some twenty (iteration, loss) pairs."""
        settings, context = self.settings, self.context
        wanted = count_images("distillation", settings.images, context.total, settings.batch_size)
        context.communicator.barrier()
        optimizers = [torch.optim.Adam(self.groups), *([Muon(self.matrices)] if self.matrices else [])]
        name = ("loss of the distillation", "distillation.step_size")
        descent = MinibatchDescent(
            optimizers,
            self._loss_and_gradients,
            name,
            context.communicator,
            context.seed,
            context.iteration,
            self._constrain,
        )
        iterations = settings.iterations_at(context.snn.timesteps, context.snn.simulated_steps)
        return descent.run(iterations, settings.batch_size, min(wanted, context.fitted))

    @torch.no_grad()
    def error(self) -> float:
        """Return the relative squared error of the outputs, a mean over them, on the images that choose."""
        first, total = self.context.deciding, self.context.total
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows in self._parts((torch.cat(list(self.context.indices)) >= first).nonzero().flatten()):
            loss += self._loss(rows)
        return self.context.communicator.sum(loss).item() / (total - first)

    @contextmanager
    def training(self) -> Iterator[list[Tensor]]:
        """Let gradients reach everything that is trained inside the context.

        Yields:
            What is trained: the synapses' parameters, and thresholds, potentials and biases a channel or a
            neuron.
        """
        snn, step = self.context.snn, self.settings.step_size
        self.groups: list[dict[str, Any]] = []
        self.matrices: list[dict[str, Any]] = []
        buffers: list[tuple[IFNeuron, str]] = []
        self.limits: list[tuple[Tensor, Tensor, float | None]] = []
        for parameter, matrix in self._synapses():
            rate = step * parameter.detach().abs().mean().item()
            if matrix:
                self._train(parameter, ORTHOGONAL * rate, self.matrices)
            else:
                self._train(parameter, rate, self.groups)
        for name, unit in snn.neurons.items():
            scale = unit.v_th.mean().item()
            for key in ("bias", "v_init", "v_th"):
                value = getattr(unit, key).expand(max(getattr(unit, key).shape, unit.v_th.shape, key=len))
                unit._buffers[key] = value.clone()
                buffers.append((unit, key))
                self._train(getattr(unit, key), 0.2 * step * scale, self.groups)
            cap = snn.network.nodes[name].settings.get("cap")
            self.limits.append((unit.v_th, SMALLEST * unit.v_th.detach(), cap))
        try:
            yield self.parameters
        finally:
            snn.requires_grad_(False)
            for neuron, key in buffers:
                neuron._buffers[key] = getattr(neuron, key).detach()
            for parameter in snn.parameters():
                parameter.grad = None

    @contextmanager
    def in_precision(self) -> Iterator[None]:
        """Let the synapses compute in the step's precision inside the context."""
        snn = self.context.snn
        before = snn.precision
        snn.precision = self.settings.precision or before
        try:
            yield
        finally:
            snn.precision = before

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained, Adam's before Muon's."""
        return [p for group in (*self.groups, *self.matrices) for p in group["params"]]

    def _synapses(self) -> Iterator[tuple[nn.Parameter, bool]]:
        """Yield the parameters of what spikes, and whether each is a matrix from all inputs to all outputs.

        Analog operators, and what is behind the last unit, stay as they are.
        """
        network = self.context.snn.network
        for name, operator in network.operators.items():
            if not traits_of(operator).analog and name not in network.schedule.tail:
                whole = traits_of(operator).weighted and groups_of(operator) == 1
                for parameter in operator.parameters():
                    yield parameter, whole and parameter.dim() > 1

    def _train(self, tensor: Tensor, rate: float, groups: list[dict[str, Any]]) -> None:
        groups.append({"params": [tensor.requires_grad_(True)], "lr": rate})

    @torch.no_grad()
    def _constrain(self) -> None:
        for v_th, least, cap in self.limits:
            v_th.copy_(torch.maximum(v_th, least).clamp(max=cap) if cap else torch.maximum(v_th, least))

    @property
    def device(self) -> torch.device:
        """Where the calibration runs."""
        return self.context.images[0].device

    @property
    def _at_once(self) -> int:
        """Images whose gradients are in memory at the same time."""
        return max(1, self.context.snn.rows // self.context.snn.simulated_steps)

    def _loss_and_gradients(self, rows: Tensor) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
        parameters = self.parameters
        fresh = self.context.fresh
        # Of all images on every process, so that their number changes nothing.
        draws = None if fresh is None else fresh.draw(self.generator)
        for part in self._parts(rows):
            loss = self._loss(part, draws) / self.settings.batch_size
            yield loss, gradients(loss, parameters)

    def _parts(self, rows: Tensor) -> Iterator[Tensor]:
        for same in self.context.of_one_size(rows):
            yield from same.split(self._at_once)

    def _loss(self, rows: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return the sum of the squared errors of images of one size, over an image's mean square.

        Args:
            rows: of the images.
            draws: random numbers for new copies of them, which take their places; None for themselves.
        """
        snn = self.context.snn
        images, targets = self._images_and_targets(rows, draws)
        readouts = snn.readouts(images)
        losses = [
            (readouts[snn.network.schedule.outputs[leaf]] - target).square().sum() / norm
            for leaf, target, norm in zip(self.leaves, targets, self.norms, strict=True)
        ]
        return torch.stack(losses).mean()

    def _images_and_targets(self, rows: Tensor, draws: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Return images and what the ANN gives for them."""
        context = self.context
        if context.fresh is None or draws is None:
            return context.take(rows), [context.take(rows, target) for target in self.targets]
        with torch.no_grad():
            images = context.fresh.make(rows, draws)
            return images, self._ann(images)

    def _ann(self, x: Tensor) -> list[Tensor]:
        values = self.context.ann.run_operators(self.context.ann.nodes, {INPUT: x})
        return [values[leaf] for leaf in self.leaves]


def _squared_norm(chunks: Sequence[Tensor]) -> Tensor:
    """Return the sum of all squares, float64."""
    sizes = alike([chunk.shape[1:] for chunk in chunks])
    norms = [
        torch.linalg.vector_norm(torch.cat([chunks[i] for i in size]), dtype=torch.float64) for size in sizes
    ]
    return torch.stack(norms).square().sum()
