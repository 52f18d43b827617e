"""The order in which a network is run, and how long each of its values lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from snn_lightning.graph.ir import Fire, Free, Instruction, Node, Region, Run, Stage, tree_leaves


@dataclass(frozen=True)
class Schedule:
    """What whoever walks a network does, in order: run this operator, fire this unit, free this value.

    Args:
        stages: in topological order, readouts last.
        outputs: for each value in the network's output, the unit that gives it.
        regions: one for each window of time; today there is one.
        lifetimes: for each value that another stage reads, the index of the last stage that does; of one
            that no stage reads, of its own stage.
    """

    stages: tuple[Stage, ...]
    outputs: Mapping[str, str]
    regions: tuple[Region, ...]
    lifetimes: Mapping[str, int]

    @cached_property
    def runs(self) -> dict[str, tuple[Run, ...]]:
        """The instructions that run each stage's operators, by the stage's name."""
        parts = (part for region in self.regions for part in region.parts)
        return {part[0].stage.name: _runs(part) for part in parts}


def make_schedule(
    nodes: Mapping[str, Node], stages: tuple[Stage, ...], output: Any, temporal: frozenset[str]
) -> Schedule:
    """Order the instructions of a network.

    A value inside a stage is freed when its last reader has run; one that passes between stages when the
    last stage that reads it has fired.

    Args:
        nodes: operator calls by name.
        stages: from `partition`.
        output: tree of value names.
        temporal: names of the values that change from time step to time step.
    """
    lifetimes: dict[str, int] = {}
    for index, stage in enumerate(stages):
        lifetimes |= dict.fromkeys((*stage.inputs, stage.name, *stage.exports), index)
    parts = []
    for index, stage in enumerate(stages):
        inner = [] if stage.current in lifetimes else [stage.current]
        dead = [key for key, last in lifetimes.items() if last == index]
        frees = (Free(stage, key) for key in (*inner, *dead))
        parts.append((*_operators(stage, nodes, temporal), Fire(stage), *frees))
    once = tuple(run for part in parts for run in _runs(part) if run.static)
    return Schedule(
        stages=stages,
        outputs={leaf: _unit(stages, leaf) for leaf in tree_leaves(output)},
        regions=(Region(0, once, tuple(parts)),),
        lifetimes=lifetimes,
    )


def _runs(instructions: tuple[Instruction, ...]) -> tuple[Run, ...]:
    return tuple(i for i in instructions if isinstance(i, Run))


def _operators(stage: Stage, nodes: Mapping[str, Node], temporal: frozenset[str]) -> Iterator[Instruction]:
    """Run the stage's operators; free each value that only they read with the last of them."""
    inner = set(stage.operators) - {stage.current, *stage.exports}
    last = {key: name for name in stage.operators for key in nodes[name].inputs if key in inner}
    for name in stage.operators:
        yield Run(stage, nodes[name], static=name not in temporal)
        yield from (Free(stage, key) for key, reader in last.items() if reader == name)


def _unit(stages: tuple[Stage, ...], leaf: str) -> str:
    return next(s.name for s in stages if s.name == leaf or (s.kind == "readout" and s.current == leaf))
