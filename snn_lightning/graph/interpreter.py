"""Walks a network by its schedule; what is done on the way is for subclasses to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import Tensor

from snn_lightning.graph.ir import Fire, Free, Instruction, Node, Region, Run, Stage

if TYPE_CHECKING:
    from snn_lightning.graph.network import StageNetwork

Value = TypeVar("Value")


class Interpreter(Generic[Value]):
    """Carries out instructions on values of any kind, as `torch.fx.Interpreter` does on a traced module.

    A subclass says what an operator and a unit make of what they read (`operator`, `unit`), or takes whole
    instructions into its own hands (`run_node`, `fire`, `free`), or a whole `stage` or `region`.

    Args:
        network: the network to walk.
        values: what it reads at first, by name; not changed.

    Attributes:
        values: all that is alive, by name.
        outputs: of the units that give the network's output, by the unit's name.
    """

    def __init__(self, network: StageNetwork, values: Mapping[str, Value]) -> None:
        self.network, self.values = network, dict(values)
        self.outputs: dict[str, Value] = {}

    def interpret(self) -> None:
        """Carry out the network's schedule."""
        for region in self.network.schedule.regions:
            self.region(region)

    def tail(self) -> None:
        """Run the operators behind the last units, on what those have given."""
        schedule = self.network.schedule
        self.values = {leaf: self.outputs[unit] for leaf, unit in schedule.outputs.items()}
        for name in schedule.tail:
            node = self.network.nodes[name]
            self.values[name] = self.operator(node, *(self.values[key] for key in node.inputs))

    def region(self, region: Region) -> None:
        """Carry out the instructions of a window."""
        for part in region.parts:
            self.stage(part[0].stage, part)
        for name in region.means:
            self.average(name)

    def stage(self, stage: Stage, instructions: Iterable[Instruction]) -> None:
        """Carry out the instructions of a stage."""
        self.carry_out(instructions)

    def carry_out(self, instructions: Iterable[Instruction]) -> None:
        """Carry out some instructions."""
        for instruction in instructions:
            if isinstance(instruction, Run):
                self.run_node(instruction.node, instruction.stage)
            elif isinstance(instruction, Fire):
                self.fire(instruction.stage)
            elif isinstance(instruction, Free):
                self.free(instruction.name)

    def run_node(self, node: Node, stage: Stage) -> None:
        """Run an operator of a stage."""
        self.values[node.name] = self.operator(node, *(self.values[key] for key in node.inputs))

    def fire(self, stage: Stage) -> None:
        """Let a stage's unit fire."""
        value = self.values[stage.name] = self.unit(stage, self.values[stage.current])
        if stage.name in self.network.schedule.outputs.values():
            self.outputs[stage.name] = value

    def average(self, name: str) -> None:
        """Take the mean over time of a value whose window is over; in the ANN it has one value anyway."""

    def free(self, name: str) -> None:
        """Forget a value."""
        self.values.pop(name, None)

    def operator(self, node: Node, *inputs: Value) -> Value:
        """Return the value of an operator call, given those it reads."""
        raise NotImplementedError

    def unit(self, stage: Stage, current: Value) -> Value:
        """Return the value of a stage's unit, given what it receives."""
        raise NotImplementedError


class ANNInterpreter(Interpreter[Tensor]):
    """Runs the ANN: a site is its activation, a gate its max pool, a readout what it receives."""

    def operator(self, node: Node, *inputs: Tensor) -> Tensor:
        """Run an operator on `[N, ...]`."""
        return self.network.run_operator(node.name, *inputs)

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        """Return the stage's activation, `[N, ...]`."""
        return current if stage.kind == "readout" else self.network.operators[stage.name](current)
