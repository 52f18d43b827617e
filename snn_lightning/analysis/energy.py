"""Spikes, synaptic operations and energy of an inference, next to the ANN's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from snn_lightning.analysis.format import si
from snn_lightning.errors import SettingsError
from snn_lightning.graph.ir import Node
from snn_lightning.graph.operators import MAX_POOLS, SYNAPSES, Affine, Elementwise, Mean, Scale, Sum
from snn_lightning.spiking.model import SpikingModel, run_static
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.neurons.temporal_switch import TOLERANCE, switches
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
    """

    name: str
    kind: str
    neurons: int
    spikes: float
    accumulates: float
    multiplications: float
    ann: float


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
        return "\n".join(
            [
                f"Operations of one image at T={self.timesteps}, mean over {self.images} images",
                *aligned(rows),
                f"Energy: {self.energy * 1e-6:.3g} µJ, {100 * self.ratio:.1f} % of the ANN's "
                f"{self.ann_energy * 1e-6:.3g} µJ ({AC} pJ an accumulate, {MAC} pJ a MAC)",
            ]
        )


@torch.no_grad()
def measure_energy(snn: SpikingModel, images: Tensor) -> EnergyReport:
    """Simulate `images`, count spikes, and estimate the energy of an inference (PC 5.5).

    Each spike, negative ones too, costs an addition in every synapse it reaches; a burst of n costs n.
    Pooling, sums and reshaping only pass spikes on. Numbers that are no spikes (the image; what another
    synapse gave without neurons in between) cost a multiply-accumulate. Zeros of the padding cost nothing,
    nor do they in the ANN. As in the paper, neuron updates, biases, comparisons and memory are free. Exact
    but for interpolation, and for average pooling whose windows differ in size.

    Args:
        snn: the spiking network, in eval mode.
        images: `[N, ...]` on its device.

    Raises:
        SettingsError: there is no image.
    """
    if len(images) == 0:
        raise SettingsError("measure_energy needs at least one image")
    network = snn.network
    with counting(snn) as spikes:
        snn(images)
    values = run_static(network, images[:1])
    values = network.run_operators([n for n in network.nodes if n not in values], values)
    # Spikes that reach each value, all images and steps together; only of values that consist of spikes.
    events = {name: count[None] for name, count in spikes.items()}
    stages = []
    for stage in network.stages:
        accumulates = multiplications = ann = 0.0
        for name in stage.operators:
            node, module = network.nodes[name], cast(nn.Module, network.operators[name])
            known = [events[key] for key in node.inputs if key in events]
            if isinstance(module, SYNAPSES):
                macs = operations(module, torch.ones_like(values[node.inputs[0]]))
                ann += macs
                if known:
                    accumulates += operations(module, known[0]) / len(images)
                else:
                    multiplications += macs * (snn.timesteps if name in network.temporal else 1)
            elif len(known) == len(node.inputs) and name not in events:
                events[name] = passed_on(node, module, known)
        neuron = stage.kind == "neuron"
        stages.append(
            StageEnergy(
                name=stage.name,
                kind=stage.kind,
                neurons=values[stage.name].numel() if neuron else 0,
                spikes=spikes[stage.name].sum().item() / len(images) if neuron else 0.0,
                accumulates=accumulates,
                multiplications=multiplications,
                ann=ann,
            )
        )
    return EnergyReport(tuple(stages), snn.timesteps, len(images))


def operations(synapses: nn.Module, events: Tensor) -> float:
    """Return how many synapses `events`, numbers of spikes `[B, C, ...]`, reach in all."""
    if isinstance(synapses, nn.Linear):
        return events.sum(dtype=torch.float64).item() * synapses.out_features
    ones = copy.deepcopy(synapses).double()
    cast(Tensor, ones.weight).fill_(1.0)
    if isinstance(ones.bias, Tensor):
        ones.bias.zero_()
    return cast(Tensor, ones(events.double())).sum().item()


def passed_on(node: Node, module: nn.Module, events: list[Tensor]) -> Tensor:
    """Return the spikes that leave an operator without synapses, given those that enter each input."""
    if isinstance(module, Affine | Elementwise | Scale):
        return events[0] + torch.zeros_like(cast(Tensor, copy.deepcopy(module).double()(events[0])))
    if node.op == "Add":
        return events[0] + events[1]
    result = cast(Tensor, module(*events))
    if "AvgPool" in node.op or (isinstance(module, Mean) and not isinstance(module, Sum)):
        ones = torch.ones_like(events[0])
        # Of each window the sum, not the mean.
        result = result * _window(module, ones, cast(Tensor, module(ones)))
    return result


def _window(module: nn.Module, ones: Tensor, means: Tensor) -> float:
    """Return the positions of a window."""
    size = getattr(module, "kernel_size", None)
    if size is None:
        return ones.numel() / means.numel()
    return float(torch.Size(size).numel() if isinstance(size, tuple) else size ** (ones.dim() - 2))


@contextmanager
def counting(snn: SpikingModel) -> Iterator[dict[str, Tensor]]:
    """Count the spikes that each neuron, gate and max pool gives while it simulates inside the context.

    Yields:
        By name the sum over images and time steps, `[C, ...]`, float64; filled by the simulation.
    """
    counts: dict[str, Tensor] = {}
    windowed = any(unit.windowed for unit in snn.neurons.values())
    at_once = snn.timesteps if windowed else 1

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        def count(module: nn.Module, args: Any, output: Any) -> None:
            # A unit gives its output over time and its state, an operator [T * N, ...].
            values = output[0] if isinstance(output, tuple) else output.unflatten(0, (at_once, -1))
            spikes = switches(values) if windowed else spikes_in(values, module)
            spikes = spikes.sum((0, 1), dtype=torch.float64)
            counts[name] = counts[name] + spikes if name in counts else spikes

        return module.register_forward_hook(count)

    network = snn.network
    pools = {n: m for n, m in network.operators.items() if isinstance(m, MAX_POOLS) and n in network.temporal}
    units = {n: u for n, u in snn.units.items() if isinstance(u, IFNeuron | GatedMaxPool)}
    handles = [watch(name, module) for name, module in {**pools, **units}.items()]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def spikes_in(values: Tensor, source: nn.Module) -> Tensor:
    """Return the number of spikes, negative ones too, in what `source` gave over time, `[T, N, C, ...]`."""
    if isinstance(source, IFNeuron):
        return (values / per_channel(source.v_th, values[0])).round_().abs_()
    # Behind a neuron they are multiples of its threshold; of what was pooled before each value is a spike.
    largest = values.abs().amax() if values.numel() else 0.0
    values = values.where(values.abs() > TOLERANCE * largest, torch.zeros_like(values))
    found = multiples(values, TOLERANCE)
    return (found[0] if found is not None else values.sign()).abs()
