"""The schedule, and the interpreter that carries it out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning.graph import INPUT, StageNetwork, normalise, prepare
from snn_lightning.graph.interpreter import ANNInterpreter, Interpreter
from snn_lightning.graph.ir import Fire, Free, Instruction, Node, Run, Stage

from ..toys import TOYS, Dense, MaxPooled, Residual, Vector, inputs, toy
from .nets import images, net


def prepared(cls: type[nn.Module]) -> StageNetwork:
    x = inputs(cls, 3)
    return prepare(normalise(toy(cls), x), x)


def instructions(network: StageNetwork) -> list[Instruction]:
    return [i for region in network.schedule.regions for part in region.parts for i in part]


def text(instruction: Instruction) -> str:
    if isinstance(instruction, Run):
        return f"{'once ' if instruction.static else ''}{instruction.node.name}"
    if isinstance(instruction, Free):
        return f"free {instruction.name}"
    return f"fire {instruction.stage.name}"


def test_a_network_by_hand() -> None:
    """A value inside a stage goes with its last reader, one between stages when its last stage has fired."""
    network = normalise(net(lambda s, x: (lambda h: s.second(F.relu(h)) + h)(s.conv(x))), images())
    first, last = ([text(i) for i in part] for part in network.schedule.regions[0].parts)
    assert first == ["once conv", "fire relu", "free input"]
    assert last[:4] == ["second", "add", "free second", "fire readout_add"]
    assert set(last[4:]) == {"free add", "free relu", "free conv", "free readout_add"}


class Alive(Interpreter[str]):
    """Reads nothing but what is alive, and counts."""

    def __init__(self, network: StageNetwork) -> None:
        super().__init__(network, {INPUT: INPUT})
        self.done: list[str] = []
        self.most = 0

    def operator(self, node: Node, *inputs: str) -> str:
        assert inputs == node.inputs
        self.done.append(node.name)
        return node.name

    def unit(self, stage: Stage, current: str) -> str:
        assert current == stage.current
        return stage.name


@pytest.mark.parametrize("cls", TOYS)
def test_everything_runs_once_and_nothing_is_left(cls: type[nn.Module]) -> None:
    network = prepared(cls)
    walk = Alive(network)
    walk.interpret()
    units = {stage.name for stage in network.stages if stage.kind != "readout"}
    assert sorted(walk.done) == sorted(set(network.nodes) - units)
    assert walk.values == {}
    assert set(walk.outputs) == set(network.schedule.outputs.values())


@pytest.mark.parametrize("cls", [Residual, Dense, MaxPooled])
def test_a_value_lives_no_longer_than_it_is_read(cls: type[nn.Module]) -> None:
    network, order = prepared(cls), {}
    for position, instruction in enumerate(instructions(network)):
        if isinstance(instruction, Free):
            order[instruction.name] = position
    for position, instruction in enumerate(instructions(network)):
        if isinstance(instruction, Run):
            assert all(position < order[key] for key in instruction.node.inputs)
        elif isinstance(instruction, Fire):
            assert position < order[instruction.stage.current]
    assert set(order) == {INPUT, *network.nodes, *(stage.name for stage in network.stages)}
    for index, stage in enumerate(network.stages):
        for key in (*stage.inputs, *stage.exports):
            assert network.schedule.lifetimes[key] >= index


def test_static_operators_run_once() -> None:
    network = prepared(Dense)
    (region,) = network.schedule.regions
    assert (region.window, [run.node.name for run in region.once]) == (0, ["stem", "norm1"])


def test_hooks_see_every_stage_in_order() -> None:
    network, x = prepared(Vector), inputs(Vector, 2)
    seen: list[str] = []

    class Watching(ANNInterpreter):
        def unit(self, stage: Stage, current: Tensor) -> Tensor:
            seen.append(stage.name)
            return super().unit(stage, current)

    walk = Watching(network, {INPUT: x})
    with torch.no_grad():
        walk.interpret()
        assert torch.equal(network.arrange(walk.outputs), network(x))
    assert seen == [stage.name for stage in network.stages]
