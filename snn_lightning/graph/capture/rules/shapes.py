"""Concatenation, cuts, and everything that only moves values about."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import nn

from snn_lightning.graph.capture.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule, module_rule

_CONSTANT = (
    "a constant, such as a class token, is joined to activations; leave it out of the network, or add it "
    "as a bias instead"
)
_IN_FRONT = "it puts a dimension before the batch; keep the batch first"


@function_rule(torch.cat, torch.concat, torch.concatenate)
def _cat(low: Lowering, tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> Value:
    dim = dim if axis is None else axis
    if not all(isinstance(part, Value) for part in tensors):
        raise Unsupported(_CONSTANT)
    dim = dim % len(tensors[0].shape)
    if dim == 0:
        raise Unsupported("it concatenates along the batch; keep the batch as it is")
    return low.add("Cat", list(tensors), {"dim": dim})


@function_rule(torch.flatten, "flatten")
def flatten(low: Lowering, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Write a flatten; from dimension 0 on it must leave the batch by itself."""
    low.result_shape()
    if start_dim % len(x.shape) == 0:
        return _reshape(low, x)
    return low.add("Flatten", [x], {"start_dim": start_dim, "end_dim": end_dim})


@function_rule(
    "view",
    "reshape",
    torch.reshape,
    "unflatten",
    torch.unflatten,
    "squeeze",
    torch.squeeze,
    "unsqueeze",
    torch.unsqueeze,
)
def _reshape(low: Lowering, x: Value, *ignored: Any, **also_ignored: Any) -> Value:
    shape = low.result_shape()
    if len(shape) == 1 and len(x.shape) > 2:
        # Independent of the input's size, where a fixed shape is not.
        return low.add("Flatten", [x], {"start_dim": 1, "end_dim": -1})
    return low.add("Reshape", [x], {"shape": shape})


@function_rule("permute", torch.permute)
def _permute(low: Lowering, x: Value, *dims: Any) -> Value:
    order = tuple(d % len(x.shape) for d in (dims[0] if isinstance(dims[0], Sequence) else dims))
    if order[0] != 0:
        raise Unsupported("it moves the batch dimension; keep the batch first")
    return low.add("Permute", [x], {"dims": order})


@function_rule("transpose", torch.transpose, "swapaxes", torch.swapaxes, "swapdims", torch.swapdims)
def _transpose(low: Lowering, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(low, x, order)


@function_rule("movedim", torch.movedim, "moveaxis", torch.moveaxis)
def _movedim(low: Lowering, x: Value, source: Any, destination: Any) -> Value:
    # The sizes of an empty tensor tell where each dimension goes.
    numbered = torch.empty(tuple(range(len(x.shape))))
    return _permute(low, x, tuple(torch.movedim(numbered, source, destination).shape))


@function_rule("narrow", torch.narrow)
def narrow(low: Lowering, x: Value, dim: int, start: int, length: int, step: int = 1) -> Value:
    """Write every `step`-th of the part `start : start + length` of `x` along `dim`."""
    dim = dim % len(x.shape)
    if dim == 0:
        raise Unsupported("it cuts the batch; keep the batch as it is")
    settings = {"dim": dim, "start": start % max(x.shape[dim], 1), "length": length}
    shape = (*x.shape[:dim], len(range(0, length, step)), *x.shape[dim + 1 :])
    return low.add("Narrow", [x], settings if step == 1 else {**settings, "step": step}, shape=shape)


@function_rule("chunk", torch.chunk, "split", torch.split, "tensor_split", torch.tensor_split)
def _parts(low: Lowering, x: Value, size: Any = None, dim: int = 0, **named_size: Any) -> tuple[Value, ...]:
    parts, start = [], 0
    for part in low.result():
        parts.append(narrow(low, x, dim, start, part.shape[dim]))
        start += part.shape[dim]
    return tuple(parts)


@function_rule("select", torch.select)
def _select(low: Lowering, x: Value, dim: int, index: int) -> Value:
    part = narrow(low, x, dim, index, 1)
    shape = [size for d, size in enumerate(x.shape) if d != dim % len(x.shape)]
    return low.add("Reshape", [part], {"shape": tuple(shape[1:])}, shape=tuple(shape))


@function_rule("unbind", torch.unbind)
def _unbind(low: Lowering, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return tuple(_select(low, x, dim, index) for index in range(len(low.result())))


@function_rule(torch.stack)
def _stack(low: Lowering, tensors: Sequence[Any], dim: int = 0) -> Value | tuple[Value, ...]:
    if not all(isinstance(part, Value) for part in tensors):
        raise Unsupported(_CONSTANT)
    dim = dim % (len(tensors[0].shape) + 1)
    if dim == 0:
        # As an ensemble does, and then its members are added up.
        if not low.targets_of_users() <= {"sum", torch.sum, "mean", torch.mean}:
            raise Unsupported(_IN_FRONT)
        return tuple(tensors)
    parts = []
    for part in tensors:
        shape = (*part.shape[:dim], 1, *part.shape[dim:])
        parts.append(low.add("Reshape", [part], {"shape": shape[1:]}, shape=shape))
    return low.add("Cat", parts, {"dim": dim})


@function_rule(operator.getitem)
def _getitem(low: Lowering, x: Any, index: Any) -> Any:
    if not isinstance(x, Value):
        return x[index]
    index = index if isinstance(index, tuple) else (index,)
    if index.count(...) == 1:
        at, given = index.index(...), sum(item is not None for item in index) - 1
        index = (*index[:at], *[slice(None)] * (len(x.shape) - given), *index[at + 1 :])
    if index[0] != slice(None) or not all(isinstance(i, slice | int | None) for i in index):
        raise Unsupported("only slices and numbers behind the batch can be taken from an activation")
    items = [item for item in index if item is not None]
    for dim, item in enumerate(items[1:], 1):
        if isinstance(item, int):
            x = narrow(low, x, dim, item, 1)
        elif item != slice(None):
            start, stop, step = item.indices(x.shape[dim])
            x = narrow(low, x, dim, start, max(stop - start, 0), step)
    moved = any(item is None or isinstance(item, int) for item in index)
    return _reshape(low, x) if moved else x


@function_rule("mean", torch.mean)
def _mean(low: Lowering, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    if isinstance(x, tuple):
        return low.add("Scale", [_total(low, x, dim, keepdim)], {"factor": 1 / len(x)})
    return _reduce(low, "Mean", x, dim, keepdim)


@function_rule("sum", torch.sum)
def _sum(low: Lowering, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    if isinstance(x, tuple):
        return _total(low, x, dim, keepdim)
    return _reduce(low, "Sum", x, dim, keepdim)


def _total(low: Lowering, parts: tuple[Value, ...], dim: Any, keepdim: bool) -> Value:
    """Add up values that have been stacked in front of the batch."""
    if dim not in (0, (0,), [0]) or keepdim:
        raise Unsupported(_IN_FRONT)
    return reduce(lambda a, b: low.add("Add", [a, b], {"alpha": 1.0}), parts)


def _reduce(low: Lowering, op: str, x: Value, dim: Any, keepdim: bool) -> Value:
    dims = range(len(x.shape)) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    order = tuple(d % len(x.shape) for d in dims)
    if 0 in order:
        raise Unsupported("it adds up the batch; keep the batch as it is")
    return low.add(op, [x], {"dims": order, "keepdim": keepdim})


@module_rule(nn.Unflatten)
def _unflatten_module(low: Lowering, module: nn.Unflatten, x: Value) -> Value:
    return _reshape(low, x)
