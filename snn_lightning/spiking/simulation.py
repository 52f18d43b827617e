"""Runs a spiking network for some time steps: the schedule's interpreter in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from torch import Tensor, nn

from snn_lightning.graph.interpreter import ANNInterpreter, Interpreter
from snn_lightning.graph.ir import Node, Region, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import traits_of
from snn_lightning.spiking.units import State, Unit


@dataclass
class SimulationState:
    """What a step-by-step simulation carries from step to step.

    Attributes:
        static: values that are the same at every step, by name.
        units: each unit's state, by name.
        t: time steps done in the present window.
        totals: sums over those steps of the outputs, by the unit's name; kept where a tail reads their means.
    """

    static: dict[str, Tensor]
    units: dict[str, State] = field(default_factory=dict)
    t: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)


def enter(network: StageNetwork, state: SimulationState, region: Region) -> None:
    """Begin a window: compute its static values."""
    ann = ANNInterpreter(network, state.static)
    ann.carry_out(region.once)
    state.static, state.t = ann.values, 0


class TimeInterpreter(Interpreter[Tensor]):
    """Runs temporal operators on all steps at once, `[T * N, ...]`, and static ones once, `[N, ...]`.

    Args:
        network: the network whose operators they are.
        values: what they read; temporal values `[T, N, ...]`, static ones `[N, ...]`. Those that are given
            are not computed.
        steps: T.
        window: the operators' window.
    """

    def __init__(
        self, network: StageNetwork, values: Mapping[str, Tensor], steps: int, window: int = 0
    ) -> None:
        super().__init__(network, values)
        self.steps, self.changing = steps, network.schedule.changing[window]

    def run_node(self, node: Node, stage: Stage) -> None:
        """Run an operator whose value is not known."""
        if node.name not in self.values:
            super().run_node(node, stage)

    def operator(self, node: Node, *inputs: Tensor) -> Tensor:
        """Return an operator's value over time, `[T, N, ...]`; a static one `[N, ...]`."""
        steps, changing = self.steps, self.changing
        if node.name not in changing:
            return self.network.run_operator(node.name, *inputs)
        flat = [
            (value if key in changing else value.expand(steps, *value.shape)).flatten(0, 1)
            for key, value in zip(node.inputs, inputs, strict=True)
        ]
        return self.network.run_operator(node.name, *flat).unflatten(0, (steps, flat[0].shape[0] // steps))


class Simulation(TimeInterpreter):
    """Runs a window, its units too, from a state onwards.

    Args:
        network: the network.
        units: its units by name.
        state: where to begin; its `units` are updated.
        steps: T.
        window: its number.
        record: takes each neuron's spike train, `[T, N, ...]`, if they are wanted.
    """

    def __init__(
        self,
        network: StageNetwork,
        units: nn.ModuleDict,
        state: SimulationState,
        steps: int,
        window: int,
        record: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(network, state.static, steps, window)
        self.units, self.state, self.record = units, state, record

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        """Return a unit's output over time, `[T, N, ...]`."""
        static = stage.current not in self.changing
        output, self.state.units[stage.name] = cast(Unit, self.units[stage.name])(
            current, self.state.units.get(stage.name), self.steps, static, overwrite=self._alone(stage)
        )
        if self.record is not None and stage.kind == "neuron":
            self.record[stage.name] = output
        return output

    def _alone(self, stage: Stage) -> bool:
        """Whether nothing else reads the memory of the stage's current."""
        name = stage.current
        inside = name in stage.operators and name not in self.network.schedule.lifetimes
        return inside and name in self.changing and traits_of(self.network.operators[name]).fresh
