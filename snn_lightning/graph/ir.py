"""The graph as plain values: nodes, stages, and trees of value names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

INPUT = "input"
"""The name of the value that enters the network."""

ACTIVATION = "Activation"


@dataclass(frozen=True)
class Node:
    """One operator call.

    Args:
        name: unique name of the call and of its value.
        op: key of `graph.operators.OPERATORS`.
        inputs: names of the values it reads.
        settings: plain keyword arguments of the operator.
        path: the qualified module in which the user's code makes the call.
        line: the user's source line, or "".

    Example:
        >>> Node("relu", "Activation", inputs=("conv",), settings={"cap": 6.0}).inputs
        ('conv',)
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    line: str = ""


@dataclass(frozen=True)
class Stage:
    """The operators that lead from earlier units to one unit, and that unit.

    A unit is whatever looks at time: a neuron at a site, a gate at a max pool, the readout at an output.

    Args:
        name: name of the unit.
        kind: "neuron", "gate" or "readout".
        operators: names of the nodes that belong to this stage, in topological order.
        current: name of the value the unit receives.
        inputs: names of earlier values the operators (or the unit) read.
        exports: names of operator values that later stages read.
        window: the number of the window of T time steps in which its unit runs.

    Example:
        >>> import torch
        >>> from snn_lightning.graph import normalise
        >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> [(stage.kind, stage.operators) for stage in normalise(ann, torch.rand(8, 2)).stages]
        [('neuron', ('_0',)), ('readout', ('_2',))]
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    current: str
    inputs: tuple[str, ...]
    exports: tuple[str, ...] = ()
    window: int = 0


@dataclass(frozen=True)
class Instruction:
    """What to do next in a network, and for which of its stages."""

    stage: Stage


@dataclass(frozen=True)
class Run(Instruction):
    """Run an operator.

    Args:
        node: its call.
        static: whether its value is the same at every time step.
    """

    node: Node
    static: bool


@dataclass(frozen=True)
class Fire(Instruction):
    """Let the stage's unit fire."""


@dataclass(frozen=True)
class Free(Instruction):
    """Forget a value that nothing reads any more.

    Args:
        name: of the value.
    """

    name: str


@dataclass(frozen=True)
class Region:
    """The part of a network that runs in one window of T time steps.

    Args:
        window: its number, from 0.
        once: the instructions on static values, which are carried out once an inference.
        parts: all instructions in order, those of a stage together.
        means: names of its values whose means over time later windows read, or the output consists of.
    """

    window: int
    once: tuple[Run, ...]
    parts: tuple[tuple[Instruction, ...], ...]
    means: tuple[str, ...] = ()


def tree_leaves(tree: Any) -> list[str]:
    """Return the value names in an output tree of tuples, lists and dicts."""
    if isinstance(tree, str):
        return [tree]
    if tree is None:
        return []
    parts: Iterable[Any] = tree.values() if isinstance(tree, Mapping) else tree
    return [leaf for part in parts for leaf in tree_leaves(part)]


def tree_map(function: Callable[[str], Any], tree: Any) -> Any:
    """Return `tree` with each value name replaced by `function(name)`."""
    if isinstance(tree, str):
        return function(tree)
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: tree_map(function, part) for key, part in tree.items()}
    return type(tree)(tree_map(function, part) for part in tree)


def readers(nodes: Mapping[str, Node]) -> dict[str, list[str]]:
    """Return, for each value, the names of the nodes that read it; one that reads it twice comes twice."""
    result: dict[str, list[str]] = {INPUT: [], **{name: [] for name in nodes}}
    for name, node in nodes.items():
        for key in node.inputs:
            result[key].append(name)
    return result
