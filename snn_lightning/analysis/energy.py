"""Spikes, synaptic operations and energy of an inference, next to the ANN's."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from snn_lightning.analysis.format import si
from snn_lightning.errors import SettingsError
from snn_lightning.graph.interpreter import Interpreter
from snn_lightning.graph.ir import INPUT, Instruction, Node, Stage
from snn_lightning.graph.macs import count_macs
from snn_lightning.graph.operators import traits_of
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.neurons.temporal_switch import TOLERANCE, SwitchNeuron, switches
from snn_lightning.spiking.packing import multiples
from snn_lightning.spiking.units import GatedMaxPool
from snn_lightning.tables import aligned

MAC, AC = 4.6, 0.9
"""pJ of a float32 multiply-accumulate and of an addition in 45 nm (Horowitz, ISSCC 2014; PC 5.5)."""


@dataclass(frozen=True)
class StageEnergy:
    """Operations of a stage, all of one image.

    Args:
        name: of the unit.
        kind: "neuron", "gate" or "readout".
        neurons: positions of the site; 0 at gates and readouts.
        spikes: that its neurons emit in T time steps, negative ones too.
        accumulates: additions in its synapses, one for each spike and synapse it reaches.
        multiplications: multiply-accumulates in synapses that receive numbers and not spikes: once where they
            are static, at each of T steps where they are temporal.
        ann: multiply-accumulates of the ANN.
        analog: those of them in analog operators, which the SNN does as well, once.
    """

    name: str
    kind: str
    neurons: int
    spikes: float
    accumulates: float
    multiplications: float
    ann: float
    analog: float = 0.0

    @property
    def energy(self) -> float:
        """Energy in the SNN, pJ."""
        return AC * self.accumulates + MAC * self.multiplications

    @property
    def ann_energy(self) -> float:
        """Energy in the ANN, pJ."""
        return MAC * self.ann


@dataclass(frozen=True)
class EnergyReport:
    """What an inference costs; print it for a table. From `measure_energy`.

    Args:
        stages: operations of each stage.
        timesteps: T.
        images: how many were simulated.
    """

    stages: tuple[StageEnergy, ...]
    timesteps: int
    images: int

    @property
    def spikes(self) -> float:
        """Spikes of one image."""
        return sum(s.spikes for s in self.stages)

    @property
    def firing_rate(self) -> float:
        """Spikes a neuron and time step."""
        return self.spikes / (self.timesteps * sum(s.neurons for s in self.stages))

    @property
    def firing_rates(self) -> dict[str, float]:
        """Spikes a neuron and time step of each site, in topological order."""
        return {s.name: s.spikes / (s.neurons * self.timesteps) for s in self.stages if s.kind == "neuron"}

    @property
    def synaptic_operations(self) -> float:
        """Accumulates of one image."""
        return sum(s.accumulates for s in self.stages)

    @property
    def multiplications(self) -> float:
        """Multiply-accumulates of one image in the SNN."""
        return sum(s.multiplications for s in self.stages)

    @property
    def energy(self) -> float:
        """Energy of one image in the SNN, pJ."""
        return AC * self.synaptic_operations + MAC * self.multiplications

    @property
    def ann_energy(self) -> float:
        """Energy of one image in the ANN, pJ."""
        return MAC * sum(s.ann for s in self.stages)

    @property
    def analog(self) -> float:
        """The share of the ANN's multiply-accumulates that stays analog."""
        return sum(s.analog for s in self.stages) / sum(s.ann for s in self.stages)

    @property
    def ratio(self) -> float:
        """Energy of the SNN over the ANN's."""
        return self.energy / self.ann_energy

    def results(self) -> dict[str, float]:
        """Return what `results.json` holds of it."""
        return {
            "spikes_per_image": round(self.spikes, 2),
            "firing_rate": round(self.firing_rate, 6),
            "synaptic_operations": round(self.synaptic_operations, 2),
            "energy_ratio": round(self.ratio, 6),
        }

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("stage", "spikes", "rate", "accumulates", "MACs", "ANN MACs")]
        for s in self.stages:
            rate = f"{s.spikes / (s.neurons * self.timesteps):.3f}" if s.neurons else "-"
            rows.append((s.name, si(s.spikes), rate, si(s.accumulates), si(s.multiplications), si(s.ann)))
        numbers = (self.synaptic_operations, self.multiplications, sum(s.ann for s in self.stages))
        rows.append(("total", si(self.spikes), f"{self.firing_rate:.3f}", *map(si, numbers)))
        analog = f", {100 * self.analog:.3g} % of the ANN's MACs stay analog" if self.analog else ""
        return "\n".join(
            [
                f"Operations of one image at T={self.timesteps}, mean over {self.images} images{analog}",
                *aligned(rows),
                f"Energy: {self.energy * 1e-6:.3g} µJ, {100 * self.ratio:.1f} % of the ANN's "
                f"{self.ann_energy * 1e-6:.3g} µJ ({AC} pJ an accumulate, {MAC} pJ a MAC)",
            ]
        )


@torch.no_grad()
def measure_energy(
    snn: SpikingModel, images: Tensor, spikes: dict[str, Tensor] | None = None
) -> EnergyReport:
    """Simulate `images`, count spikes, and estimate the energy of an inference (PC 5.5).

    Each spike, negative ones too, costs an addition in every synapse it reaches; a burst of n costs n.
    Pooling, sums and reshaping only pass spikes on. Numbers that are no spikes (the image; what another
    synapse gave without neurons in between) cost a multiply-accumulate. Zeros of the padding cost nothing,
    nor do they in the ANN. As in the paper, neuron updates, biases, comparisons and memory are free. Exact
    but for interpolation, and for average pooling whose windows differ in size.

    Args:
        snn: the spiking network, in eval mode.
        images: `[N, ...]` on its device.
        spikes: that it gave on them, from `counted`; None to simulate now.

    Raises:
        SettingsError: there is no image.

    Example:
        >>> from snn_lightning import convert
        >>> ann = nn.Sequential(nn.ReLU(), nn.Linear(2, 3))
        >>> snn = convert(ann, torch.tensor([[1.0, 1.0]]), timesteps=4)
        >>> report = measure_energy(snn, torch.tensor([[0.5, 0.5]]))
        >>> report.spikes, report.synaptic_operations
        (4.0, 12.0)
    """
    spikes = counted(snn, images) if spikes is None else spikes
    counter = _Counter(snn, images, spikes)
    counter.interpret()
    counter.finish()
    return EnergyReport(tuple(counter.stages), snn.timesteps, len(images))


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
    """

    def __init__(self, snn: SpikingModel, images: Tensor, spikes: dict[str, Tensor]) -> None:
        super().__init__(snn.network, {INPUT: _Flow(images[:1])})
        self.timesteps, self.images, self.spikes = snn.timesteps, len(images), spikes
        self.stages: list[StageEnergy] = []

    def stage(self, stage: Stage, instructions: Iterable[Instruction]) -> None:
        """Count the operations of a stage."""
        self._reset()
        super().stage(stage, instructions)
        self._note(stage.name, stage.kind)

    def _reset(self) -> None:
        self.accumulates = self.multiplications = self.ann = self.analog = self.fired = 0.0
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
                analog=self.analog,
            )
        )

    def finish(self) -> None:
        """Count the operations behind the last unit."""
        schedule = self.network.schedule
        if schedule.tail:
            self._reset()
            self.values = {leaf: _Flow(self.outputs[unit].value) for leaf, unit in schedule.outputs.items()}
            for name in schedule.tail:
                node = self.network.nodes[name]
                self.values[name] = self.operator(node, *(self.values[key] for key in node.inputs))
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
        self.analog += macs
        self.multiplications += macs

    def average(self, name: str) -> None:
        """Let later windows read numbers instead of spikes."""
        if name in self.values:
            self.values[name] = _Flow(self.values[name].value)

    def _count(self, node: Node, synapses: nn.Module, x: _Flow) -> None:
        macs = operations(synapses, torch.ones_like(x.value))
        self.ann += macs
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


@torch.no_grad()
def counted(snn: SpikingModel, images: Tensor) -> dict[str, Tensor]:
    """Simulate `images`, and return how many spikes each neuron, gate and max pool gives.

    Args:
        snn: the spiking network, in eval mode.
        images: `[N, ...]` on its device.

    Returns:
        By name the sum over images and time steps, `[C, ...]`, float64.

    Raises:
        SettingsError: there is no image.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(nn.ReLU(), torch.tensor([[1.0, 1.0]]), timesteps=4)
        >>> counted(snn, torch.tensor([[0.5, 0.75]]))["relu"]
        tensor([2., 3.], dtype=torch.float64)
    """
    if len(images) == 0:
        raise SettingsError("There are no images to simulate, and spikes are counted on at least one")
    counts: dict[str, Tensor] = {}
    windowed = any(unit.windowed for unit in snn.neurons.values())
    switched = any(isinstance(unit, SwitchNeuron) for unit in snn.neurons.values())
    at_once = snn.timesteps if windowed else 1

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        def count(module: nn.Module, args: Any, output: Any) -> None:
            # A unit gives its output over time and its state, an operator [T * N, ...].
            values = output[0] if isinstance(output, tuple) else output.unflatten(0, (at_once, -1))
            spikes = switches(values) if switched else spikes_in(values, module)
            spikes = spikes.sum((0, 1), dtype=torch.float64)
            counts[name] = counts[name] + spikes if name in counts else spikes

        return module.register_forward_hook(count)

    network = snn.network
    pools = {
        name: module
        for name, module in network.operators.items()
        if traits_of(module).pools == "max" and name in network.temporal
    }
    units = {n: u for n, u in snn.units.items() if isinstance(u, IFNeuron | GatedMaxPool)}
    handles = [watch(name, module) for name, module in {**pools, **units}.items()]
    try:
        # Where calling it would simulate means, the spikes in time.
        snn.running_mean(images) if windowed else snn(images)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def spikes_in(values: Tensor, source: nn.Module) -> Tensor:
    """Return the number of spikes, negative ones too, in what `source` gave over time, `[T, N, C, ...]`.

    Example:
        >>> train = torch.tensor([0.0, 2.0, -2.0]).view(3, 1, 1)
        >>> spikes_in(train, IFNeuron(torch.tensor(2.0))).flatten()
        tensor([0., 1., 1.])
    """
    if isinstance(source, IFNeuron):
        return (values / per_channel(source.v_th, values[0])).round_().abs_()
    # Behind a neuron they are multiples of its threshold; of what was pooled before each value is a spike.
    largest = values.abs().amax() if values.numel() else 0.0
    values = values.where(values.abs() > TOLERANCE * largest, torch.zeros_like(values))
    found = multiples(values, TOLERANCE)
    return (found[0] if found is not None else values.sign()).abs()
