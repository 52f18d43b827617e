"""What a simulation and a calibration cost, in operations and bytes, before any of it is run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.analysis.format import in_bytes, si
from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Instruction, Node, Stage
from snn_lightning.graph.macs import count_macs
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import CONVOLUTIONS, groups_of, traits_of
from snn_lightning.tables import aligned

FLOAT = 4
"""Bytes of a number."""


@dataclass(frozen=True)
class HeldValue:
    """A value that the walk holds for later stages, the ANN's and the SNN's.

    Args:
        places: its positions, one image.
        form: what the SNN's is: "spikes" (some bits each), "temporal" or "static" numbers, or "none".
        until: index of the last stage that reads it.
    """

    places: int
    form: str
    until: int

    def bytes(self, images: int, timesteps: int, spike_bits: int = 1) -> int:
        """Return the bytes of the SNN's value."""
        numbers = images * self.places
        if self.form == "spikes":
            return spike_bits * math.ceil(numbers * timesteps / 8)
        return {"temporal": timesteps, "static": 1, "none": 0}[self.form] * FLOAT * numbers


@dataclass(frozen=True)
class StageCost:
    """Sizes of a stage, all of one image; MACs are multiply-accumulates.

    Args:
        name: of the unit.
        kind: "neuron", "gate" or "readout".
        macs: of one ANN forward.
        static_macs: those of them that a simulation does once, not T times.
        gradient_macs: of one image in an SGD step: forward and backward; 0 without weights.
        gram_macs: of one image in the Gram matrices of least squares; 0 without weights.
        muon_macs: of a step of the distillation, besides its images: Muon's products of weight matrices.
        weights: numbers that the SGD changes, of the stage and not of an image.
        neurons: positions of the site; 0 at gates and readouts.
        places: positions of the unit.
        read: positions of all that the stage reads.
        static: whether the unit's current is static.
        leaves: what it leaves behind for later stages.
    """

    name: str
    kind: str
    macs: int
    static_macs: int
    gradient_macs: int
    gram_macs: int
    muon_macs: int
    weights: int
    neurons: int
    places: int
    read: int
    static: bool
    leaves: tuple[HeldValue, ...]

    def simulated_macs(self, timesteps: int) -> int:
        """Return the MACs of an image in a simulation of T time steps."""
        return self.static_macs + timesteps * (self.macs - self.static_macs)

    def calibrated(self, work: Work) -> bool:
        """Whether a pipeline's steps change the stage."""
        return self.kind == "neuron" or (self.kind == "readout" and work.readout)

    def trained(self, work: Work) -> bool:
        """Whether the stage has weights that are calibrated."""
        return self.calibrated(work) and work.iterations > 0 and self.weights > 0

    def solved(self, work: Work) -> bool:
        """Whether the stage has weights that are solved for."""
        return self.calibrated(work) and work.solutions > 0 and self.gram_macs > 0


@dataclass(frozen=True)
class CostEstimate:
    """Operations and bytes of a calibration; print it for a table. From `estimate_cost`.

    Args:
        stages: sizes of each stage.
        input: the network's input.
        work: what is to be done.
    """

    stages: tuple[StageCost, ...]
    input: HeldValue
    work: Work

    @property
    def macs(self) -> int:
        """MACs of one ANN forward of one image."""
        return sum(s.macs for s in self.stages)

    @property
    def static_macs(self) -> int:
        """Those of them that a simulation does once."""
        return sum(s.static_macs for s in self.stages)

    @property
    def neurons(self) -> int:
        """Neurons of the spiking network."""
        return sum(s.neurons for s in self.stages)

    @property
    def image_macs(self) -> int:
        """MACs of one image in one simulation."""
        return sum(s.simulated_macs(self.work.steps) for s in self.stages)

    @property
    def simulation_macs(self) -> int:
        """MACs of one simulation of the calibration images."""
        return self.work.images * self.image_macs

    @property
    def neuron_updates(self) -> int:
        """Neuron updates of one simulation of the calibration images."""
        return self.work.images * self.work.steps * self.neurons

    @property
    def sweep_macs(self) -> int:
        """MACs of the walk without weight calibration: ANN and SNN once, and currents that found no room."""
        return sum(self.swept_macs(index) for index in range(len(self.stages)))

    @property
    def weight_macs(self) -> int:
        """MACs of the weight calibration of all stages."""
        return sum(self.trained_macs(index) for index in range(len(self.stages)))

    @property
    def distilled_macs(self) -> int:
        """MACs of the distillation: the simulation, forward and twice that backward; new copies' ANN too.

        And the matrix products of its steps.
        """
        work, targets = self.work, self.macs if self.work.originals else 0
        steps = work.distilled_steps * sum(stage.muon_macs for stage in self.stages)
        return work.distilled * (3 * self.image_macs + targets) + steps

    @property
    def peak_bytes(self) -> int:
        """Bytes of one process's cache at its peak, in memory."""
        return max(self.memory(index)[0] for index in range(len(self.stages)))

    @property
    def disk_bytes(self) -> int:
        """Bytes of one process's cache on disk at its peak, for which the budget had no room."""
        return max(self.memory(index)[1] for index in range(len(self.stages)))

    def swept_macs(self, index: int) -> int:
        """Return the MACs of a stage in the walk, without weight calibration, over all processes."""
        stage, work = self.stages[index], self.work
        images = work.images * (stage.macs + stage.simulated_macs(work.steps))
        again = work.corrected * stage.simulated_macs(work.steps) if stage.calibrated(work) else 0
        return images + round((1 - self.held(index)) * again)

    def trained_macs(self, index: int) -> int:
        """Return the MACs of a stage's weight calibration, over all processes."""
        stage, work = self.stages[index], self.work
        if stage.solved(work):
            # Each time the SNN and the product with the residual, at first the ANN and the Gram matrix, and
            # the SNN again for the error of all images before and after.
            errors = 2 * work.images * stage.macs
            return errors + work.solved * ((2 * work.solutions + 1) * stage.macs + stage.gram_macs)
        if not stage.trained(work):
            return 0
        steps = work.iterations * work.batch_size * stage.gradient_macs
        curvature = stage.macs + work.power_iterations * (stage.macs + stage.gradient_macs)
        # The error before and after, of all images.
        errors = 2 * work.images * stage.macs
        return steps + errors + (work.batch_size * curvature if work.power_iterations else 0)

    def reduced_bytes(self, index: int) -> int:
        """Return the bytes that one SGD step of a stage sends through its gradient reduction."""
        return FLOAT * (self.stages[index].weights + 2) if self.work.processes > 1 else 0

    def held(self, index: int) -> float:
        """Return the part of a stage's currents that stays in memory between two simulations."""
        wanted, work = self._currents(index), self.work
        if not wanted or work.budget is None:
            return 1.0
        return min(1.0, max(0.0, (work.budget - self._live(index)) / wanted))

    def memory(self, index: int) -> tuple[int, int]:
        """Return the bytes of one process's cache while a stage is calibrated: in memory, and on disk."""
        stage, budget = self.stages[index], self.work.budget
        images = self.work.share(self.work.images)
        workspace = 0
        if stage.trained(self.work):
            workspace = FLOAT * images * (stage.read + stage.places)
        elif stage.solved(self.work):
            workspace = FLOAT * images * (stage.places + (0 if stage.static else stage.read))
        left = self._live(index, after=True)
        memory = max(self._live(index) + workspace, left + round(self.held(index) * self._currents(index)))
        if budget is None:
            return memory, 0
        return min(memory, int(budget)), max(0, max(self._live(index) + workspace, left) - int(budget))

    def _currents(self, index: int) -> int:
        """Bytes of a stage's currents, on one process."""
        stage, work = self.stages[index], self.work
        if not work.corrected or not stage.calibrated(work):
            return 0
        steps = 1 if stage.static else work.steps
        return FLOAT * work.share(min(work.corrected, work.images)) * steps * stage.places

    def _live(self, index: int, after: bool = False) -> int:
        """Bytes of all values that are alive at a stage, before or after it has fired, on one process."""
        images, steps = self.work.share(self.work.images), self.work.steps
        # A distillation reads the images again, after all stages.
        needed = self.input.until >= index or self.work.distilled
        kept = (images if needed else 0) + (self.work.originals if self.work.distilled else 0)
        total = FLOAT * kept * self.input.places
        for i, stage in enumerate(self.stages[: index + 1]):
            for value in stage.leaves:
                if i == index or value.until >= index:
                    total += FLOAT * images * value.places
                    total += value.bytes(images, steps, self.work.spike_bits) if i < index or after else 0
        return total

    def __str__(self) -> str:
        work, count = self.work, range(len(self.stages))
        rows: list[tuple[str, ...]] = [
            ("stage", "MACs", "static", "neurons", "simulation", "weights", "cache")
        ]
        for i, s in enumerate(self.stages):
            numbers = (s.macs, s.static_macs, s.neurons, self.swept_macs(i), self.trained_macs(i))
            rows.append((s.name, *(f"{si(n)}" for n in numbers), in_bytes(sum(self.memory(i)))))
        numbers = (self.macs, self.static_macs, self.neurons, self.sweep_macs, self.weight_macs)
        rows.append(("total", *map(si, numbers), in_bytes(max(sum(self.memory(i)) for i in count))))
        return "\n".join(
            [
                "Cost: MACs, static MACs and neurons of one image; MACs of calibrating "
                f"{work.images} images at T={work.timesteps}; bytes in the cache",
                *aligned(rows),
                *([f"Distillation: {si(self.distilled_macs)} MACs"] if work.distilled else []),
                f"Simulation of one image: {si(self.image_macs)} MACs, "
                f"{si(work.steps * self.neurons)} neuron updates",
                f"Cache at its peak: {in_bytes(self.peak_bytes)} in memory, "
                f"{in_bytes(self.disk_bytes)} on disk",
            ]
        )


def estimate_cost(network: StageNetwork, shape: Sequence[int], work: Work) -> CostEstimate:
    """Count the operations and bytes of a calibration.

    Args:
        network: the normalised and prepared ANN; on the meta device nothing is computed, elsewhere one image
            of zeros runs through it.
        shape: of one input, without the batch, `[C, ...]`.
        work: what is to be done.

    Example:
        >>> from snn_lightning import LCP
        >>> from snn_lightning.graph import normalise
        >>> network = normalise(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.rand(1, 2))
        >>> cost = estimate_cost(network, (2,), LCP(timesteps=4).work(images=100))
        >>> cost.macs, cost.neurons
        (9, 3)
    """
    like = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    counter = _Counter(network, image)
    with torch.no_grad():
        counter.interpret()
    until = network.schedule.lifetimes.get(INPUT, -1)
    return CostEstimate(tuple(counter.stages), HeldValue(image.numel(), "static", until), work)


class _Counter(ANNInterpreter):
    """Runs one image through the ANN and notes the sizes of each stage.

    Multiply-accumulates are torch's own count: biases, sums, pooling and per-channel factors are none.

    Args:
        network: the ANN.
        image: `[1, ...]`.
    """

    def __init__(self, network: StageNetwork, image: Tensor) -> None:
        super().__init__(network, {INPUT: image})
        self.stages: list[StageCost] = []
        self.learning: set[str] = set()

    def stage(self, stage: Stage, instructions: Iterable[Instruction]) -> None:
        """Note the sizes of a stage."""
        self.macs = self.static = self.gradient = self.gram = self.muon = self.weights = 0
        self.read = sum(self.values[key].numel() for key in stage.inputs)
        super().stage(stage, instructions)

    def operator(self, node: Node, *inputs: Tensor) -> Tensor:
        """Run an operator and count its multiply-accumulates."""
        module = self.network.operators[node.name]
        traits, run = traits_of(module), super().operator
        costs = traits.weighted or traits.analog
        value, macs = count_macs(run, node, *inputs) if costs else (run(node, *inputs), 0)
        self.macs += macs
        self.static += macs if node.name not in self.network.temporal else 0
        upstream, weighted = not self.learning.isdisjoint(node.inputs), traits.weighted
        if weighted:
            self._weights(module, macs, upstream)
        if upstream or weighted:
            self.learning.add(node.name)
        return value

    def _weights(self, synapse: nn.Module, macs: int, upstream: bool) -> None:
        weight = cast(Tensor, synapse.weight)
        self.weights += weight.numel()
        if isinstance(synapse, (*CONVOLUTIONS, nn.Linear)):
            self.gram += macs * weight[0].numel() * groups_of(synapse) // weight.shape[0]
        if groups_of(synapse) == 1 and weight.dim() > 1:
            self.muon += muon_macs(weight.shape[0], weight[0].numel())
        # Forward and gradient of the weight; that of the input where an earlier weight learns by it.
        self.gradient += macs * (3 if upstream else 2)

    def fire(self, stage: Stage) -> None:
        """Run the stage's unit, with which the stage is complete."""
        super().fire(stage)
        places = self.values[stage.name].numel()
        lifetimes, temporal = self.network.schedule.lifetimes, self.network.temporal
        form = "none" if stage.kind == "readout" else "spikes"
        leaves = [HeldValue(places, form, lifetimes[stage.name])]
        for key in stage.exports:
            form = "temporal" if key in temporal else "static"
            leaves.append(HeldValue(self.values[key].numel(), form, lifetimes[key]))
        self.learning.clear()
        self.stages.append(
            StageCost(
                name=stage.name,
                kind=stage.kind,
                macs=self.macs,
                static_macs=self.static,
                gradient_macs=self.gradient,
                gram_macs=self.gram,
                muon_macs=self.muon,
                weights=self.weights,
                neurons=places if stage.kind == "neuron" else 0,
                places=places,
                read=self.read,
                static=stage.current not in temporal,
                leaves=tuple(leaves),
            )
        )


def muon_macs(rows: int, columns: int) -> int:
    """Return the MACs of a step of Muon: five iterations of three matrix products.

    Args:
        rows, columns: of the weight matrix.

    Example:
        >>> muon_macs(4, 2) == muon_macs(2, 4) == 5 * (2 * 2 * 2 * 4 + 2 * 2 * 2)
        True
    """
    short, long = sorted((rows, columns))
    return 5 * short * short * (2 * long + short)
