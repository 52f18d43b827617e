"""Spikes, synaptic operations and energy of an inference, next to the ANN's."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from snn_lightning.analysis.energy.model import EnergyModel, StageEnergy, prices
from snn_lightning.analysis.energy.nonzeros import nonzeros
from snn_lightning.analysis.energy.report import EnergyReport
from snn_lightning.analysis.energy.spikes import counted
from snn_lightning.analysis.mismatch import counterpart
from snn_lightning.graph.interpreter import Interpreter
from snn_lightning.graph.ir import INPUT, Instruction, Node, Stage
from snn_lightning.graph.macs import count_macs
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import traits_of
from snn_lightning.spiking.model import SpikingModel


@torch.no_grad()
def measure_energy(
    snn: SpikingModel,
    images: Tensor,
    spikes: dict[str, Tensor] | None = None,
    *,
    ann: nn.Module | None = None,
    model: EnergyModel | None = None,
) -> EnergyReport:
    """Simulate `images`, count spikes, and estimate the energy of an inference (PC 5.5).

    Each spike, negative ones too, costs an addition in every synapse it reaches; a burst of n costs n.
    Pooling, sums and reshaping only pass spikes on. Numbers that are no spikes (the image; what another
    synapse gave without neurons in between) cost a multiply-accumulate, zeros among them too. Zeros of the
    padding cost nothing, nor do they in the ANN. As in the paper, neuron updates, biases and comparisons are
    free, and memory is unless `model` has a price for it. Exact but for interpolation, and for average
    pooling whose windows differ in size.

    Beside it stand the dense ANN, and an ANN that multiplies only what is not zero, the image's zeros left
    out too; its analog operators multiply everything.

    Args:
        snn: the spiking network, in eval mode.
        images: `[N, ...]` on its device.
        spikes: that it gave on them, from `counted`; None to simulate now.
        ann: the network that was converted, or its stages, for where its activations are zero; None for an
            ANN with the SNN's own weights and biases, which a calibration has changed.
        model: the prices; `EnergyModel()` by default.

    Raises:
        SettingsError: there is no image, or `snn` is no SNN of this ANN.

    Example:
        >>> from snn_lightning import convert
        >>> ann = nn.Sequential(nn.ReLU(), nn.Linear(2, 3))
        >>> snn = convert(ann, torch.tensor([[1.0, 1.0]]), timesteps=4)
        >>> report = measure_energy(snn, torch.tensor([[0.5, 0.0]]))
        >>> report.spikes, report.synaptic_operations
        (2.0, 6.0)
        >>> report.total.ann, report.total.nonzero
        (6.0, 3.0)
    """
    model = prices(model)
    spikes = counted(snn, images) if spikes is None else spikes
    found = nonzeros(_stages(ann, snn, images), images, snn.images_at_once)
    counter = _Counter(snn, images, spikes, found)
    counter.interpret()
    counter.finish()
    return EnergyReport(tuple(counter.stages), snn.timesteps, len(images), model)


def _stages(ann: nn.Module | None, snn: SpikingModel, images: Tensor) -> StageNetwork:
    if ann is None:
        return snn.network
    if isinstance(ann, StageNetwork) and ann.nodes == snn.network.nodes:
        return ann
    return counterpart(ann, snn, images)


class _Flow(NamedTuple):
    """What passes between operators.

    Args:
        value: of one image in the ANN, `[1, ...]`.
        events: spikes that reach each place, of all images and steps together, `[1, ...]`; None where
            numbers come that are no spikes.
    """

    value: Tensor
    events: Tensor | None = None


class _Counter(Interpreter[_Flow]):
    """Follows spikes from the units that fire them to the synapses that they reach.

    Args:
        snn: the spiking network.
        images: that it has simulated.
        spikes: that each neuron, gate and max pool gave, from `counted`.
        found: what is not zero in the ANN, from `nonzeros`.
    """

    def __init__(
        self, snn: SpikingModel, images: Tensor, spikes: dict[str, Tensor], found: dict[str, Tensor]
    ) -> None:
        super().__init__(snn.network, {INPUT: _Flow(images[:1])})
        self.timesteps, self.images, self.spikes, self.nonzeros = snn.timesteps, len(images), spikes, found
        self.stages: list[StageEnergy] = []

    def stage(self, stage: Stage, instructions: Iterable[Instruction]) -> None:
        """Count the operations of a stage."""
        self._reset()
        super().stage(stage, instructions)
        self._note(stage.name, stage.kind)

    def _reset(self) -> None:
        self.accumulates = self.multiplications = self.ann = self.nonzero = self.analog = 0.0
        self.fired = self.active = 0.0
        self.neurons = 0

    def _note(self, name: str, kind: str) -> None:
        self.stages.append(
            StageEnergy(
                name=name,
                kind=kind,
                neurons=self.neurons,
                spikes=self.fired,
                accumulates=self.accumulates,
                multiplications=self.multiplications,
                ann=self.ann,
                nonzero=self.nonzero,
                active=self.active,
                analog=self.analog,
            )
        )

    def finish(self) -> None:
        """Count the operations behind the last unit."""
        if self.network.schedule.tail:
            self._reset()
            self.outputs = {unit: _Flow(flow.value) for unit, flow in self.outputs.items()}
            self.tail()
            self._note("tail", "analog")

    def operator(self, node: Node, *inputs: _Flow) -> _Flow:
        """Count what a synapse receives; pass on what another operator does."""
        module = self.network.operators[node.name]
        traits, values = traits_of(module), [x.value for x in inputs]
        if traits.analog:
            value, macs = count_macs(self.network.run_operator, node.name, *values)
            self._count_analog(macs)
            return _Flow(value)
        value = self.network.run_operator(node.name, *values)
        if traits.weighted:
            self._count(node, module, *inputs)
            return _Flow(value)
        if node.name in self.spikes:
            return _Flow(value, self.spikes[node.name][None])
        events = [x.events for x in inputs if x.events is not None]
        return _Flow(value, traits.passed_on(module, events) if len(events) == len(inputs) else None)

    def _count_analog(self, macs: int) -> None:
        self.ann += macs
        self.nonzero += macs
        self.analog += macs
        self.multiplications += macs

    def average(self, name: str) -> None:
        """Let later windows read numbers instead of spikes."""
        if name in self.values:
            self.values[name] = _Flow(self.values[name].value)

    def _count(self, node: Node, synapses: nn.Module, x: _Flow) -> None:
        macs = operations(synapses, torch.ones_like(x.value))
        self.ann += macs
        self.nonzero += operations(synapses, self.nonzeros[node.name]) / self.images
        if x.events is not None:
            self.accumulates += operations(synapses, x.events) / self.images
        else:
            self.multiplications += macs * (self.timesteps if node.name in self.network.temporal else 1)

    def unit(self, stage: Stage, current: _Flow) -> _Flow:
        """Return the spikes of a unit, and count a neuron's."""
        if stage.kind == "readout":
            return current
        value, spikes = self.network.operators[stage.name](current.value), self.spikes[stage.name]
        if stage.kind == "neuron":
            self.neurons, self.fired = value.numel(), spikes.sum().item() / self.images
            self.active = self.nonzeros[stage.name].sum().item() / self.images
        return _Flow(value, spikes[None])


def operations(synapses: nn.Module, events: Tensor) -> float:
    """Return how many synapses `events`, numbers of spikes `[B, C, ...]`, reach in all.

    Example:
        >>> synapses = nn.Conv1d(1, 5, 3).requires_grad_(False)
        >>> operations(synapses, torch.tensor([[[0.0, 2.0, 0.0, 0.0]]]))  # kernels at two places reach it
        20.0
    """
    if isinstance(synapses, nn.Linear):
        return events.sum(dtype=torch.float64).item() * synapses.out_features
    ones = copy.deepcopy(synapses).double()
    cast(Tensor, ones.weight).fill_(1.0)
    if isinstance(ones.bias, Tensor):
        ones.bias.zero_()
    return cast(Tensor, ones(events.double())).sum().item()
