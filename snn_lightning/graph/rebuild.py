"""Build the operators of a description; modules of the user's own come from the ANN."""

from __future__ import annotations

from torch import nn

from snn_lightning.errors import CheckpointError
from snn_lightning.graph.capture.trace import copied, unwrap
from snn_lightning.graph.ir import Node
from snn_lightning.graph.operators import build
from snn_lightning.graph.operators.analog import AnalogModule


def rebuilt(node: Node, ann: nn.Module | None) -> nn.Module:
    """Return the operator of a call, with fresh parameters or with those of the ANN.

    Args:
        node: the call.
        ann: the ANN that was converted, or a network that was made of it; left as it is.

    Raises:
        CheckpointError: it is a module of the user's own, and `ann` has no such one.
    """
    operator = build(node.op, node.settings)
    if isinstance(operator, AnalogModule) and operator.module:
        operator.inner = copied(_own(operator, ann)).eval().requires_grad_(False)
    return operator


def _own(operator: AnalogModule, ann: nn.Module | None) -> nn.Module:
    path, kind = operator.module, operator.kind
    if ann is None:
        raise CheckpointError(
            f"The network has a module of your own in it, '{path}' ({kind}), whose code no file holds: pass "
            "the ANN that was converted, load_converted(path, ann=net)."
        )
    found = _inside(ann, path)
    if type(found).__name__ != kind:
        there = "has no such module" if found is None else f"has a {type(found).__name__} there"
        raise CheckpointError(
            f"The network has a module of your own in it, '{path}' ({kind}), and {type(ann).__name__} "
            f"{there}: pass the ANN that was converted, load_converted(path, ann=net)."
        )
    assert found is not None
    return found


def _inside(ann: nn.Module, path: str) -> nn.Module | None:
    """Return the module at `path`, past what compiles it, or as an earlier conversion has kept it."""
    for operator in ann.modules():
        if isinstance(operator, AnalogModule) and operator.module == path:
            return operator.inner
    found = unwrap(ann)
    for name in path.split("."):
        part = found._modules.get(name)
        if part is None:
            return None
        found = unwrap(part)
    return found
