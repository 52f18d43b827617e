"""The order in which a network is run, and how long each of its values lives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from snn_lightning.graph.ir import INPUT, Fire, Free, Instruction, Node, Region, Run, Stage, tree_leaves
from snn_lightning.graph.passes.partition import partition, tail_of, temporal_values, units_of


@dataclass(frozen=True)
class Schedule:
    """What whoever walks a network does, in order: run this operator, fire this unit, free this value.

    Args:
        stages: those of a window together, each after those it reads.
        outputs: for each value that the network's output or its tail reads, the unit that gives it.
        tail: names of the operators that run once at the end, on the units' means.
        regions: one for each window of time.
        temporal: names of the values that change from time step to time step; all others are static.
        windows: for each value that another stage reads, the window in which it is computed.
        lifetimes: for each of them, the index of the last stage that reads it; of one that no stage reads,
            of its own stage.
        changing: for each window the values that change in time there; all others are static or means.
    """

    stages: tuple[Stage, ...]
    outputs: Mapping[str, str]
    tail: tuple[str, ...]
    regions: tuple[Region, ...]
    temporal: frozenset[str]
    windows: Mapping[str, int]
    lifetimes: Mapping[str, int]
    changing: Mapping[int, frozenset[str]]

    @cached_property
    def runs(self) -> dict[str, tuple[Run, ...]]:
        """The instructions that run each stage's operators, by the stage's name."""
        parts = (part for region in self.regions for part in region.parts)
        return {part[0].stage.name: _runs(part) for part in parts}


def make_schedule(nodes: Mapping[str, Node], output: Any, gates: Collection[str]) -> Schedule:
    """Order the instructions of a network.

    A value inside a stage is freed when its last reader has run; one that passes between stages when the
    last stage that reads it has fired.

    Args:
        nodes: operator calls by name.
        output: tree of value names.
        gates: names of the max pools that are units of their own where their input changes in time.
    """
    tail = tail_of(nodes, units_of(nodes, gates))
    read = [*tree_leaves(output), *(key for name in tail for key in nodes[name].inputs)]
    leaves = [key for key in dict.fromkeys(read) if key not in tail]
    stages = partition({name: node for name, node in nodes.items() if name not in tail}, leaves, gates)
    temporal, outputs = temporal_values(nodes, stages), {leaf: _unit(stages, leaf) for leaf in leaves}
    lifetimes, windows = dict[str, int](), {INPUT: 0}
    for index, stage in enumerate(stages):
        lifetimes |= dict.fromkeys((*stage.inputs, stage.name, *stage.exports), index)
        windows |= dict.fromkeys((stage.name, *stage.exports), stage.window)
    # A mean that the output consists of is read when the last window is over.
    read_by = {key: stages[last].window for key, last in lifetimes.items()}
    read_by |= dict.fromkeys(outputs.values(), stages[-1].window)
    regions = []
    for window, part in groupby(enumerate(stages), key=lambda pair: pair[1].window):
        parts = tuple(_part(index, stage, nodes, temporal, lifetimes) for index, stage in part)
        once = tuple(run for part in parts for run in _runs(part) if run.static)
        means = (key for key, own in windows.items() if own == window and read_by.get(key, 0) > window)
        units = {stage.name for stage in stages}
        regions.append(Region(window, once, parts, tuple(k for k in means if k in temporal or k in units)))
    changing = {
        region.window: frozenset(key for key in temporal if windows.get(key, region.window) == region.window)
        for region in regions
    }
    return Schedule(stages, outputs, tail, tuple(regions), temporal, windows, lifetimes, changing)


def _part(
    index: int,
    stage: Stage,
    nodes: Mapping[str, Node],
    temporal: Collection[str],
    lifetimes: Mapping[str, int],
) -> tuple[Instruction, ...]:
    inner = [] if stage.current in lifetimes else [stage.current]
    dead = [key for key, last in lifetimes.items() if last == index]
    frees = (Free(stage, key) for key in (*inner, *dead))
    return (*_operators(stage, nodes, temporal), Fire(stage), *frees)


def _runs(instructions: tuple[Instruction, ...]) -> tuple[Run, ...]:
    return tuple(i for i in instructions if isinstance(i, Run))


def _operators(stage: Stage, nodes: Mapping[str, Node], temporal: Collection[str]) -> Iterator[Instruction]:
    """Run the stage's operators; free each value that only they read with the last of them."""
    inner = set(stage.operators) - {stage.current, *stage.exports}
    last = {key: name for name in stage.operators for key in nodes[name].inputs if key in inner}
    for name in stage.operators:
        yield Run(stage, nodes[name], static=name not in temporal)
        yield from (Free(stage, key) for key, reader in last.items() if reader == name)


def _unit(stages: tuple[Stage, ...], leaf: str) -> str:
    return next(s.name for s in stages if s.name == leaf or (s.kind == "readout" and s.current == leaf))
