"""Cut a data-flow graph into stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from snn_lightning.graph.ir import ACTIVATION, INPUT, Node, Stage, tree_leaves


def temporal_values(nodes: Mapping[str, Node]) -> frozenset[str]:
    """Return the names of all values that depend on a site: those that change from time step to time step."""
    temporal: set[str] = set()
    for name, node in nodes.items():
        if node.op == ACTIVATION or any(key in temporal for key in node.inputs):
            temporal.add(name)
    return frozenset(temporal)


def partition(nodes: Mapping[str, Node], output: Any, gates: Collection[str]) -> tuple[Stage, ...]:
    """Group operators into stages.

    Each operator belongs to the first stage, in topological order, that needs it; its value is exported when
    a later stage reads it too, so that no operator ever runs in two stages.

    Args:
        nodes: operator calls in topological order.
        output: tree of value names.
        gates: names of the max pools that are units of their own.

    Returns:
        The stages in topological order, one readout for each output value that is not a unit's own.
    """
    units = [name for name, node in nodes.items() if node.op == ACTIVATION or name in gates]
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
        stages.append(Stage(name, kind, operators, current, tuple(dict.fromkeys(outside[::-1]))))

    for name in units:
        add(name, "neuron" if nodes[name].op == ACTIVATION else "gate", nodes[name].inputs[0])
    for name in dict.fromkeys(tree_leaves(output)):
        if name not in units:
            add(f"readout_{name}" if name != INPUT else "readout", "readout", name)
    read_later = {key for stage in stages for key in stage.inputs}
    return tuple(
        Stage(
            s.name, s.kind, s.operators, s.current, s.inputs, tuple(k for k in s.operators if k in read_later)
        )
        for s in stages
    )
