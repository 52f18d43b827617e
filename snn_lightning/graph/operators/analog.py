"""What a network leaves analog: functions of torch, modules of torch, and modules of the user's own.

The arguments of a call are kept as a template of plain numbers, strings, tuples and lists. In it a dict with
one key stands for what is not plain: `{"value": i}` for the i-th value that the operator reads, `{"constant":
i}` for a tensor that it has, `{"rows": i}` for one that is the same for every input, `{"dict": ...}`,
`{"slice": ...}`, `{"dtype": ...}` and `{"ellipsis": ...}`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import get_overridable_functions, resolve_name

from snn_lightning.graph.operators.table import register_operator
from snn_lightning.graph.operators.traits import Traits

_OPERATORS = "add sub mul truediv matmul pow neg getitem lt le eq ne ge gt and_ or_ xor invert"
_NOT_LISTED = "celu_ elu_ hardsigmoid hardswish hardtanh_ leaky_relu_ rrelu_ selu_ sigmoid tanh threshold_"
"""Functions on tensors that torch does not list among those that can be overridden."""


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Return by name the functions that a network may call: torch's public ones on tensors, and Python's."""
    several = get_overridable_functions().values()
    named = {resolve_name(function): function for known in several for function in known}
    public = {name: f for name, f in named.items() if name and "._" not in name}
    public |= {f"torch.nn.functional.{name}": getattr(F, name) for name in _NOT_LISTED.split()}
    return public | {f"operator.{name}": getattr(operator, name) for name in _OPERATORS.split()}


@cache
def _names() -> dict[Callable[..., Any], str]:
    return {function: name for name, function in functions().items()}


def function_name(target: Any) -> str | None:
    """Return the name in `functions()` of a function, or of a tensor's method by its own name."""
    if not isinstance(target, str):
        if target in _names():
            return _names()[target]
        # One that works in place, such as torch.sigmoid_, may not be listed; the method is.
        own = getattr(target, "__name__", "")
        target = own if getattr(torch, own, None) is target else ""
    method = f"torch.Tensor.{target}"
    return method if method in functions() else None


def torch_class(kind: str) -> type[nn.Module]:
    """Return the class of torch.nn called `kind`.

    Raises:
        ValueError: there is none.
    """
    found = getattr(nn, kind, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module) or "." in kind:
        raise ValueError(f"torch.nn has no module {kind!r}")
    return found


class Analog(nn.Module):
    """A call that is left as it is; it gives one of the tensors that the call returns.

    Args:
        args, kwargs: templates of the arguments.
        leaf: indices and keys that lead from what the call returns to the tensor.
        constants: type and shape of each constant.
        in_place: whether the call changes what it reads, and has to get copies.
    """

    traits = Traits(linear=False, analog=True)
    title: str
    """What it is called in a report."""

    def __init__(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        leaf: Sequence[Any] = (),
        constants: Sequence[tuple[str, Sequence[int]]] = (),
        in_place: bool = False,
    ) -> None:
        super().__init__()
        self.template, self.leaf, self.in_place = (tuple(args), dict(kwargs or {})), tuple(leaf), in_place
        for index, (dtype, shape) in enumerate(constants):
            self.register_buffer(f"constant_{index}", torch.zeros(tuple(shape), dtype=_dtype(dtype)))
        self._check(len(constants))

    def _check(self, constants: int) -> None:
        found = [*_references(self.template[0]), *_references(tuple(self.template[1].values()))]
        if any(key != "value" and not 0 <= index < constants for key, index in found):
            raise ValueError("it has not all the constants that it calls with")
        self.reads = len({index for key, index in found if key == "value"})
        """Number of values that it reads."""
        if {index for key, index in found if key == "value"} != set(range(self.reads)):
            raise ValueError("it does not call with all the values that it reads")

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call on tensors `[B, ...]`; returns one `[B, ...]`."""
        if self.in_place:
            inputs = tuple(x.clone() for x in inputs)
        args, kwargs = self.template
        result = self.call(
            *self._filled(args, inputs), **{key: self._filled(part, inputs) for key, part in kwargs.items()}
        )
        for key in self.leaf:
            result = result[key]
        return cast(Tensor, result)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Return what is called with these arguments gives."""
        raise NotImplementedError

    def _filled(self, part: Any, inputs: Sequence[Tensor]) -> Any:
        """Return a part of the template with its values and constants."""
        if isinstance(part, tuple | list):
            return type(part)(self._filled(item, inputs) for item in part)
        if not isinstance(part, dict):
            return part
        key, content = _only_item(part)
        if key == "value":
            return inputs[content]
        if key == "constant":
            return self.get_buffer(f"constant_{content}")
        if key == "rows":
            row = self.get_buffer(f"constant_{content}")
            return row.expand(len(inputs[0]), *row.shape[1:])
        if key == "dict":
            return {name: self._filled(item, inputs) for name, item in content.items()}
        if key == "slice":
            return slice(*content)
        return ... if key == "ellipsis" else _dtype(content)


def _only_item(part: Mapping[str, Any]) -> tuple[str, Any]:
    if len(part) != 1:
        raise ValueError(f"{part!r} stands for nothing that can be called with")
    (item,) = part.items()
    return item


def _references(part: Any) -> Iterator[tuple[str, int]]:
    """Yield all that a template refers to, values and constants, and check its form."""
    if isinstance(part, tuple | list):
        for item in part:
            yield from _references(item)
    elif isinstance(part, dict):
        key, content = _only_item(part)
        if key in ("value", "constant", "rows") and type(content) is int:
            yield key, content
        elif key == "dict" and isinstance(content, dict):
            yield from _references(tuple(content.values()))
        elif key == "dtype":
            _dtype(content)
        elif key not in ("slice", "ellipsis"):
            raise ValueError(f"{part!r} stands for nothing that can be called with")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is no type of numbers")
    return found


@register_operator
class AnalogFunction(Analog):
    """A function of torch, or a method of tensors.

    Args:
        function: its name in `functions()`.
        call: see `Analog`.
    """

    def __init__(self, function: str, **call: Any) -> None:
        super().__init__(**call)
        if function not in functions():
            raise ValueError(f"{function!r} is no function that a network may call")
        self.function, self.title = function, f"analog {function.rpartition('.')[2]}"

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns."""
        return functions()[self.function](*args, **kwargs)


@register_operator
class AnalogModule(Analog):
    """A module of torch, or of the user's own.

    Args:
        kind: its class in torch.nn, or the name of the user's.
        settings: of a module of torch.
        module: where the ANN has the user's own, by its qualified name; "" for a module of torch.
        call: see `Analog`.

    Attributes:
        inner: the module; None where the user's own is still to be taken from the ANN.
    """

    inner: nn.Module | None

    def __init__(
        self, kind: str, settings: Mapping[str, Any] | None = None, module: str = "", **call: Any
    ) -> None:
        super().__init__(**call)
        self.kind, self.module, self.title = kind, module, f"analog {kind}"
        self.inner = None
        if not module:
            self.inner = torch_class(kind)(**(settings or {})).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> AnalogModule:
        """Stay in eval mode, in which it has been converted."""
        return super().train(False)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns."""
        assert self.inner is not None
        return self.inner(*args, **kwargs)
