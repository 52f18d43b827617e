"""Rewrite a traced graph in the package's own vocabulary of operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from snn_lightning.errors import ConversionError
from snn_lightning.graph.capture.analog import UNBATCHED, describable, joined, leave_analog
from snn_lightning.graph.capture.choice import Choice
from snn_lightning.graph.capture.registry import FUNCTION_RULES, MODULE_RULES, Rule
from snn_lightning.graph.capture.remedies import DEFAULT, REMEDIES, remedy
from snn_lightning.graph.capture.trace import describe_path, module_path, source_line, surrounding
from snn_lightning.graph.capture.values import Mask, Unbatched, Unsupported, Value
from snn_lightning.graph.description import TAKEN
from snn_lightning.graph.ir import ACTIVATION, INPUT, Node, tree_leaves
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import OPERATORS, traits_named

__all__ = ["Lowering", "Mask", "Obstacle", "Unsupported", "Value"]


@dataclass(frozen=True)
class Obstacle:
    """Something that can't be converted.

    Args:
        operator: what it is, e.g. "Sigmoid".
        path: the qualified module whose code calls it.
        line: the source line, or "".
        remedy: what the user can do.
        analog: the pattern that would leave it analog, or "".
    """

    operator: str
    path: str
    line: str
    remedy: str
    analog: str = ""

    def __str__(self) -> str:
        where = f" ({self.line})" if self.line else ""
        setting = f'; or leave it analog, analog=("{self.analog}",)' if self.analog else ""
        return f"{self.operator} in {describe_path(self.path)}{where}: {self.remedy}{setting}"


_SHAPE_QUERIES = (
    "getattr",
    "size",
    "dim",
    "ndimension",
    "numel",
    "stride",
    "is_contiguous",
    "is_floating_point",
    "get_device",
    "_assert",
)
"""Calls whose result depends on a tensor's form only, so that it may be taken from the sample."""


class Lowering(fx.Interpreter):
    """Runs the traced graph on a sample and writes down each call as a `Node`.

    Running it gives every shape and folds everything that is not a tensor (sizes, flags) into plain numbers.

    Args:
        traced: from `trace`.
        choice: what is left analog.

    Attributes:
        changed: the calls whose results the present one changes in place.
    """

    def __init__(self, traced: fx.GraphModule, choice: Choice | None = None) -> None:
        super().__init__(traced, garbage_collect_values=False)
        self.choice = choice or Choice()
        self.changed: list[fx.Node] = []
        self.nodes: dict[str, Node] = {}
        self.modules: dict[str, nn.Module] = {}
        self.obstacles: list[Obstacle] = []
        self.values: dict[fx.Node, Any] = {}
        self.batch = 0
        self._current: fx.Node | None = None
        self.sites: set[fx.Node] = set()
        self.refused: list[fx.Node] = []
        self.changing: list[fx.Node] = []

    def lower(self, sample: Tensor) -> StageNetwork:
        """Return the network in plain operators.

        Raises:
            ConversionError: lists every obstacle at once.
        """
        self.batch = sample.shape[0]
        tree: Any = None
        # Outside inference mode tensors count how often they have been changed.
        with torch.inference_mode(False), torch.no_grad():
            for node in self.graph.nodes:
                self._current = node
                if node.op == "placeholder":
                    # A copy: the network may work in place.
                    self.env[node], self.values[node] = sample.clone(), Value(INPUT, sample.shape)
                elif node.op == "output":
                    if not self.obstacles:
                        tree = self._output(fx.node.map_arg(node.args[0], self.values.__getitem__))
                else:
                    self.env[node] = self._run(node, sample)
                    self.values[node] = self._lower_node(node)
        if self.obstacles:
            obstacles = list(dict.fromkeys(self.obstacles))
            lines = "\n".join(f"  {i}. {obstacle}" for i, obstacle in enumerate(obstacles, 1))
            raise ConversionError(f"The network can't be converted; obstacles:\n{lines}", obstacles)
        return StageNetwork(self._live_nodes(tree), tree, self.modules)

    def tail(self) -> set[str]:
        """Return the names of the refused calls, if all stand behind the last site; else none."""
        behind, stack = set[fx.Node](), list(self.refused)
        if self.changing:
            # What it changes in place may be read under any name by all that comes after it.
            nodes = list(self.graph.nodes)
            stack += nodes[min(map(nodes.index, self.changing)) :]
        while stack:
            node = stack.pop()
            if node not in behind:
                behind.add(node)
                stack.extend(node.users)
        return {node.name for node in self.refused} if self.sites and behind.isdisjoint(self.sites) else set()

    def _live_nodes(self, tree: Any) -> list[Node]:
        live, stack = set(), tree_leaves(tree)
        while stack:
            name = stack.pop()
            if name in self.nodes and name not in live:
                live.add(name)
                stack.extend(self.nodes[name].inputs)
        return [node for name, node in self.nodes.items() if name in live]

    def add(
        self,
        op: str | type[nn.Module],
        inputs: list[Value],
        settings: dict[str, Any],
        module: nn.Module | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Value:
        """Append an operator and return its value; used by the rules.

        Args:
            op: a registered operator, or its name.
            inputs: what it reads.
            settings: its plain settings.
            module: the operator, where it has parameters.
            shape: of its value `[N, ...]`, where that is not the shape of the present call's result.
        """
        if any(isinstance(value, Mask) for value in inputs):
            raise Unsupported(REMEDIES["comparison"])
        op = op if isinstance(op, str) else OPERATORS.name_of(op)
        node = self._current
        assert node is not None
        if op == ACTIVATION:
            self.sites.add(node)
        name = node.name if self._free(node.name) else f"{node.name}_{len(self.nodes)}"
        names = tuple(value.name for value in inputs)
        self.nodes[name] = Node(name, op, names, settings, module_path(node), source_line(node))
        if module is not None:
            self.modules[name] = module
        if shape is None:
            result = self.result()
            shape = result.shape if isinstance(result, Tensor) else ()
        return Value(name, torch.Size(shape))

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module as it was when the present call was traced."""
        assert self._current is not None
        return self._current.meta["module"](*args, **kwargs)

    def result(self) -> Any:
        """Return the present call's result on the sample."""
        assert self._current is not None
        return self.env[self._current]

    def cast(self, x: Value) -> Any:
        """Return the value of the present call, a method of `x` that gives it in another type.

        All operators compute in the type of the weights, whatever the ANN does for a while; only what an
        analog call gives may have another.
        """
        node = self._current
        assert node is not None
        if isinstance(x, Mask) or self.env[node.all_input_nodes[0]].dtype == self.result().dtype:
            return x
        behind_analog = any(traits_named(part.op).analog for part in self._live_nodes(x.name))
        return leave_analog(self, node) if behind_analog else x

    def is_computed(self, position: int, name: str) -> bool:
        """Whether an argument of the present call, or a part of it, is the result of other calls."""
        node, found = self._current, list[fx.Node]()
        assert node is not None
        fx.node.map_arg((node.args[position : position + 1], node.kwargs.get(name)), found.append)
        return bool(found)

    def targets_of_users(self) -> set[Any]:
        """Return what reads the present call's result: functions, and the names of methods and modules."""
        assert self._current is not None
        return {user.target for user in self._current.users}

    def result_shape(self) -> tuple[int, ...]:
        """Return the shape of the present call's result behind the batch; the batch must be first."""
        shape = tuple(self.result().shape)
        if shape[0] != self.batch:
            raise Unsupported("it moves or merges the batch dimension; keep the batch first and by itself")
        return shape[1:]

    def rebind(self, old: Value, new: Value) -> Value:
        """Let what held `old` hold `new` from here on, as an in-place operation does; returns `new`."""
        if not isinstance(old, Value):
            raise Unsupported(
                "it changes a tensor of the model in place; a spiking network's only state is potentials"
            )
        for node, value in self.values.items():
            if value == old:
                self.values[node] = new
        return new

    @contextmanager
    def at(self, node: fx.Node) -> Iterator[None]:
        """Write operators of an earlier call, which changes nothing in place, for a while."""
        before, self._current, self.changed = (self._current, self.changed), node, []
        try:
            yield
        finally:
            self._current, self.changed = before

    def _run(self, node: fx.Node, sample: Tensor) -> Any:
        read = [part for part in node.all_input_nodes if isinstance(self.env[part], Tensor)]
        versions = [self.env[part]._version for part in read]
        try:
            result = self.run_node(node)
            self.changed = [
                part for part, old in zip(read, versions, strict=True) if self.env[part]._version != old
            ]
            return result
        except Exception as error:
            line = f" ({source_line(node)})" if source_line(node) else ""
            raise ConversionError(
                f"The network fails on inputs of shape {tuple(sample.shape)} in "
                f"{describe_path(module_path(node))}{line}: {error}. Pass a sample like the inputs it was "
                "trained on."
            ) from error

    def _free(self, name: str) -> bool:
        return name not in self.nodes and name not in TAKEN

    def _lower_node(self, node: fx.Node) -> Any:
        result = self.env[node]
        if node.op == "get_attr":
            return result
        args = fx.node.map_arg(node.args, self.values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self.values.__getitem__)
        if not _has_value((args, kwargs)):
            return result
        if node.target is getattr and not isinstance(args[0], Value):
            return _part(args[0], str(args[1]))
        name, rule, leading = self._rule(node)
        if not _has_tensor(result) and name in _SHAPE_QUERIES:
            return result
        try:
            if node.target in self.choice.leaves or self.choice.takes(name):
                return leave_analog(self, node)
            try:
                return self._written(node, name, rule, (*leading, *args), kwargs)
            except Unsupported:
                if self.choice.auto or node.name in self.choice.tail:
                    return leave_analog(self, node)
                raise
        except Unsupported as reason:
            self.refused.append(node)
            self.changing += [node] if self.changed else []
            pattern = name if describable(self, node) else surrounding(node)
            self.obstacles.append(Obstacle(name, module_path(node), source_line(node), str(reason), pattern))
        return _stand_in(node.name, result)

    def _written(
        self, node: fx.Node, name: str, rule: Rule | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the values of a call that the vocabulary has operators for."""
        if any(isinstance(self.values[part], Unbatched) for part in node.all_input_nodes):
            raise Unsupported(UNBATCHED)
        if rule is None:
            raise Unsupported(remedy(name, last=all(user.op == "output" for user in node.users)))
        try:
            return rule(self, *args, **kwargs)
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            form = f"it is called in a form that is not supported here ({error}); {DEFAULT}"
            raise Unsupported(form) from error

    def _rule(self, node: fx.Node) -> tuple[str, Rule | None, tuple[Any, ...]]:
        """Return what is called, the rule for it, and the arguments in front of the user's."""
        if node.op != "call_module":
            name = (
                node.target
                if isinstance(node.target, str)
                else getattr(node.target, "__name__", str(node.target))
            )
            return name, FUNCTION_RULES.get(node.target), ()
        module = node.meta["module"]
        base = next((cls for cls in type(module).__mro__ if cls in MODULE_RULES), None)
        # A subclass with a forward of its own is another operator than its base.
        rule = MODULE_RULES[base] if base is not None and type(module).forward is base.forward else None
        return type(module).__name__, rule, (module,)

    def _output(self, tree: Any) -> Any:
        if isinstance(tree, Mask):
            raise ConversionError(
                "The network returns a comparison of an activation; return the activation, and compare the "
                "SNN's output with 0."
            )
        if isinstance(tree, Unbatched):
            raise ConversionError(
                f"The network returns an analog result of shape {tuple(tree.shape)}, whose first dimension "
                "is not the batch; return tensors [N, ...]."
            )
        if isinstance(tree, Value):
            return tree.name
        if isinstance(tree, dict):
            return {key: self._output(part) for key, part in tree.items()}
        if isinstance(tree, tuple | list):
            parts = [self._output(part) for part in tree]
            return parts if isinstance(tree, list) else tuple(parts)
        if tree is None:
            return None
        raise ConversionError(
            f"The network returns a {type(tree).__name__}; only tensors, tuples, lists and dicts do."
        )


def _stand_in(name: str, result: Any) -> Any:
    """Return what an obstacle would have made, so that the obstacles behind it are found too."""
    if isinstance(result, tuple | list):
        return joined(result, [_stand_in(name, part) for part in result])
    if isinstance(result, dict):
        return {key: _stand_in(name, part) for key, part in result.items()}
    return Value(name, result.shape) if isinstance(result, Tensor) else result


def _part(tree: Any, name: str) -> Any:
    """Return what is called `name` in what an analog call gives."""
    return tree[name] if isinstance(tree, dict) else getattr(tree, name)


def _has_value(tree: Any) -> bool:
    if isinstance(tree, Value):
        return True
    if isinstance(tree, dict):
        return any(_has_value(part) for part in tree.values())
    return isinstance(tree, tuple | list) and not isinstance(tree, torch.Size) and any(map(_has_value, tree))


def _has_tensor(tree: Any) -> bool:
    if isinstance(tree, dict):
        return any(map(_has_tensor, tree.values()))
    return isinstance(tree, Tensor) or (isinstance(tree, tuple | list) and any(map(_has_tensor, tree)))
