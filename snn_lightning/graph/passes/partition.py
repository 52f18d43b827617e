"""Cut a data-flow graph into stages, and the stages into windows of time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from snn_lightning.graph.ir import ACTIVATION, INPUT, Node, Stage
from snn_lightning.graph.operators import traits_named


class Timing(NamedTuple):
    """When a value is there.

    Args:
        window: the number of its window of T time steps.
        changes: whether it changes from time step to time step there; all others are static.
    """

    window: int
    changes: bool


def timings(nodes: Mapping[str, Node]) -> dict[str, Timing]:
    """Return when each value is there.

    What depends on a site changes in time. An analog operator reads means over time, so that it runs when
    the window of what it reads is over, and what it gives is static. Means of an earlier window are static
    too.
    """
    found = {INPUT: Timing(0, False)}
    for name, node in nodes.items():
        read = [found[key] for key in node.inputs]
        window = max((timing.window for timing in read), default=0)
        changes = any(timing == (window, True) for timing in read)
        if node.op == ACTIVATION:
            changes = True
        elif changes and traits_named(node.op).analog:
            window, changes = window + 1, False
        found[name] = Timing(window, changes)
    return found


def units_of(nodes: Mapping[str, Node], gates: Collection[str]) -> list[str]:
    """Return the names of the sites, and of the gates whose input changes in time."""
    timing = timings(nodes)
    return [
        name
        for name, node in nodes.items()
        if node.op == ACTIVATION or (name in gates and timing[name].changes)
    ]


def tail_of(nodes: Mapping[str, Node], units: Collection[str]) -> tuple[str, ...]:
    """Return the names of the nodes that only read the network's means: analog ones with no unit behind them.

    They, and all behind them, run once the last window is over, and cost none of their own.
    """
    timing, before_units, tail = timings(nodes), set[str](), set[str]()
    for name in reversed(list(nodes)):
        if name in units or name in before_units:
            before_units.update(nodes[name].inputs)
    for name, node in nodes.items():
        reads_means = traits_named(node.op).analog and any(
            timing[key].changes or timing[key].window for key in node.inputs
        )
        behind = name not in before_units and name not in units
        if behind and (reads_means or any(key in tail for key in node.inputs)):
            tail.add(name)
    return tuple(name for name in nodes if name in tail)


def partition(nodes: Mapping[str, Node], leaves: Iterable[str], gates: Collection[str]) -> tuple[Stage, ...]:
    """Group operators into stages.

    Each operator belongs to the first stage that needs it, in the order of windows and then of the graph;
    its value is exported when a later stage reads it too, so that no operator ever runs in two stages.

    Args:
        nodes: operator calls in topological order, without the tail.
        leaves: names of the values that the output or the tail reads.
        gates: names of the max pools that are units of their own.

    Returns:
        The stages, those of a window together, each after those it reads; one readout for each of the
        `leaves` that is not a unit's own.
    """
    timing, units = timings(nodes), units_of(nodes, gates)
    done: set[str] = {INPUT, *units}
    stages: list[Stage] = []

    def add(name: str, kind: str, current: str) -> None:
        wanted, stack, outside = set(), [current], []
        while stack:
            key = stack.pop()
            if key in done:
                outside.append(key)
            elif key not in wanted:
                wanted.add(key)
                stack.extend(nodes[key].inputs)
        done.update(wanted)
        operators = tuple(key for key in nodes if key in wanted)
        inputs = tuple(dict.fromkeys(outside[::-1]))
        stages.append(Stage(name, kind, operators, current, inputs, window=timing[current].window))

    kinds = {name: "neuron" if nodes[name].op == ACTIVATION else "gate" for name in units}
    wanted_units = [(name, kinds[name], nodes[name].inputs[0]) for name in units]
    for name in dict.fromkeys(leaves):
        if name not in kinds:
            wanted_units.append((f"readout_{name}" if name != INPUT else "readout", "readout", name))
    for unit in sorted(wanted_units, key=lambda unit: timing[unit[2]].window):
        add(*unit)
    read_later = {key for stage in stages for key in stage.inputs}
    return tuple(replace(s, exports=tuple(k for k in s.operators if k in read_later)) for s in stages)


def temporal_values(nodes: Mapping[str, Node], stages: Iterable[Stage]) -> frozenset[str]:
    """Return the names of all values that change from time step to time step when their stage runs."""
    timing, names = timings(nodes), set[str]()
    for stage in stages:
        names.update(key for key in stage.operators if timing[key] == (stage.window, True))
        names.update({stage.name} if stage.kind != "readout" else ())
    return frozenset(names)
