"""Checks a network's description before anything is built from it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import CheckpointError
from snn_lightning.graph.ir import INPUT, Node, tree_leaves
from snn_lightning.graph.operators import OPERATORS, traits_of
from snn_lightning.graph.rebuild import rebuilt

TAKEN = frozenset(dir(nn.ModuleDict()))
"""Names that operators can't have."""


def check_description(
    nodes: Iterable[Node],
    output: Any,
    gates: Iterable[str],
    state: Mapping[str, Tensor] | None,
    ann: nn.Module | None = None,
) -> None:
    """Refuse what is no network: its values must come in an order in which they can be computed.

    Args:
        nodes: operator calls.
        output: tree of value names.
        gates: names of max pools.
        state: the parameters that belong to it, by their names in a `StageNetwork`; None if they are unknown.
        ann: the network that was converted, where it has modules of the user's own.

    Raises:
        ValueError: says what is wrong.
        CheckpointError: a module of the user's own is missing.
    """
    nodes = list(nodes)
    names, known = {node.name for node in nodes if isinstance(node.name, str)}, {INPUT: ""}
    for node in nodes:
        _check_name(node.name, known)
        _check_operator(node)
        for key in node.inputs:
            _check_read(f"'{node.name}'", key, known, names)
        _check_sizes(node, state, ann)
        known[node.name] = node.op
    leaves = tree_leaves(output)
    if not leaves:
        raise ValueError("it has no output")
    for key in leaves:
        _check_read("the output", key, known, names)
    for key in gates:
        if not known.get(key) or traits_of(OPERATORS.get(known[key])).pools != "max":
            raise ValueError(f"the gate {key!r} is no max pool")


def _check_name(name: Any, known: Collection[str]) -> None:
    if not isinstance(name, str) or not name or "." in name or name in TAKEN:
        raise ValueError(f"an operator can't be called {name!r}")
    if name in known:
        raise ValueError(f"two values are called '{name}'")


def _check_read(reader: str, key: Any, known: Collection[str], names: Collection[str]) -> None:
    if not isinstance(key, str) or key not in known:
        raise ValueError(
            f"{reader} reads '{key}' before it is computed: the operators form a circle or are out of order"
            if isinstance(key, str) and key in names
            else f"{reader} reads {key!r}, which does not exist"
        )


def _check_operator(node: Node) -> None:
    """Check an operator's kind, the number of its inputs, and that its settings are plain."""
    if not isinstance(node.op, str) or node.op not in OPERATORS:
        raise ValueError(f"'{node.name}' is an operator {node.op!r}, which is not known")
    parameters = inspect.signature(OPERATORS.get(node.op).forward).parameters.values()
    # One of them is the operator itself; a concatenation takes any number, from one on.
    wanted, count = sum(p.default is p.empty for p in parameters) - 1, len(node.inputs)
    many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if count < wanted or (count > wanted and not many):
        raise ValueError(f"'{node.name}' ({node.op}) reads {count} values instead of {wanted}")
    if not isinstance(node.settings, dict):
        raise ValueError(f"the settings of '{node.name}' are a {type(node.settings).__name__}")
    for key, value in node.settings.items():
        if not _is_plain(value):
            raise ValueError(f"the setting {key!r} of '{node.name}' is a {type(value).__name__}")


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_plain, value.values()))
    parts = value if isinstance(value, tuple | list) else ()
    return isinstance(value, int | float | str | tuple | list | None) and all(map(_is_plain, parts))


def _check_sizes(node: Node, state: Mapping[str, Tensor] | None, ann: nn.Module | None) -> None:
    """Build the operator without memory, and compare what it asks for with what there is."""
    try:
        with torch.device("meta"):
            operator = rebuilt(node, ann)
    except CheckpointError:
        raise
    except Exception as error:  # each operator has its own way to refuse a setting
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"'{node.name}' ({node.op}) can't be built: {reason}") from error
    reads = getattr(operator, "reads", len(node.inputs))
    if reads != len(node.inputs):
        raise ValueError(f"'{node.name}' ({node.op}) reads {len(node.inputs)} values instead of {reads}")
    for name, wanted in operator.state_dict().items() if state is not None else ():
        given = (state or {}).get(f"operators.{node.name}.{name}")
        if given is None or given.shape != wanted.shape:
            found = "has none" if given is None else f"has {tuple(given.shape)}"
            raise ValueError(
                f"'{node.name}' ({node.op}) asks for a {name} of shape {tuple(wanted.shape)}, and the file "
                f"{found}"
            )
