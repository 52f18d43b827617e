"""What the values of a graph look like while it is being traced: sizes, types and devices, but no numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode


class Form:
    """Runs the calls that have been traced on a sample without numbers.

    Args:
        root: the network that is traced.
        sample: inputs `[N, ...]`; None where nothing is known of them.

    Attributes:
        busy: whether it is running a call now.
    """

    def __init__(self, root: nn.Module, sample: Tensor | None) -> None:
        self.root, self.busy = root, False
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._sample = None if sample is None else self._mode.from_tensor(sample)
        self._values: dict[fx.Node, Any] = {}

    def plain(self, node: fx.Node) -> Any:
        """Return the plain value of a call, as `x.shape[1] > 7` has one; a tensor where it has none.

        Raises:
            Exception: whatever a call raises that needs numbers.
        """
        self.busy = True
        try:
            with self._mode, torch.no_grad():
                return self._value(node)
        finally:
            self.busy = False

    def _value(self, last: fx.Node) -> Any:
        wanted, stack = set[fx.Node](), [last]
        while stack:
            node = stack.pop()
            if node not in wanted and node not in self._values:
                wanted.add(node)
                stack.extend(node.all_input_nodes)
        for node in last.graph.nodes:
            if node in wanted:
                self._values[node] = self._run(node)
        return self._values[last]

    def _run(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._sample
        if node.op == "get_attr":
            return _attribute(self.root, str(node.target))
        args = fx.node.map_arg(node.args, self._values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self._values.__getitem__)
        if node.op == "call_module":
            return node.meta["module"](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)


def _attribute(root: nn.Module, path: str) -> Any:
    parent, _, name = path.rpartition(".")
    return getattr(root.get_submodule(parent), name)
