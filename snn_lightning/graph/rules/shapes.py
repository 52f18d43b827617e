"""Concatenation, cuts, and everything that only moves values about."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.ops import Permute

from snn_lightning.graph.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.rules.registry import function_rule, module_rule


@function_rule(torch.cat, torch.concat, torch.concatenate)
def _cat(low: Lowering, tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> Value:
    dim = dim if axis is None else axis
    if not all(isinstance(part, Value) for part in tensors):
        raise Unsupported("a constant is concatenated with activations; add it as a bias instead")
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


@function_rule("transpose", torch.transpose)
def _transpose(low: Lowering, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(low, x, order)


def _narrow(low: Lowering, x: Value, dim: int, start: int, length: int) -> Value:
    if dim % len(x.shape) == 0:
        raise Unsupported("it cuts the batch; keep the batch as it is")
    return low.add("Narrow", [x], {"dim": dim % len(x.shape), "start": start, "length": length})


@function_rule("chunk", torch.chunk, "split", torch.split)
def _parts(low: Lowering, x: Value, size: Any = None, dim: int = 0, **named_size: Any) -> tuple[Value, ...]:
    parts, start = [], 0
    for part in low.result():
        length = part.shape[dim]
        value = _narrow(low, x, dim, start, length)
        parts.append(Value(value.name, part.shape))
        start += length
    return tuple(parts)


@function_rule(operator.getitem)
def _getitem(low: Lowering, x: Any, index: Any) -> Any:
    if not isinstance(x, Value):
        return x[index]
    index = index if isinstance(index, tuple) else (index,)
    if index[0] != slice(None) or not all(isinstance(i, slice | int) for i in index):
        raise Unsupported("only slices and numbers behind the batch can be taken from an activation")
    shape = x.shape
    for dim, item in enumerate(index[1:], 1):
        if isinstance(item, int):
            x = _narrow(low, x, dim, item % shape[dim], 1)
        elif item != slice(None):
            start, stop, step = item.indices(shape[dim])
            if step != 1:
                raise Unsupported(
                    "slices with a step are not supported; use a strided convolution or pooling"
                )
            x = _narrow(low, x, dim, start, stop - start)
        x = Value(x.name, shape)
    if any(isinstance(item, int) for item in index[1:]):
        return _reshape(low, x)
    return Value(x.name, low.result().shape)


@function_rule("mean", torch.mean)
def _mean(low: Lowering, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    dims = range(len(x.shape)) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    order = tuple(d % len(x.shape) for d in dims)
    if 0 in order:
        raise Unsupported("it averages over the batch; keep the batch as it is")
    return low.add("Mean", [x], {"dims": order, "keepdim": keepdim})


@module_rule(nn.Unflatten)
def _unflatten_module(low: Lowering, module: nn.Unflatten, x: Value) -> Value:
    return _reshape(low, x)


module_rule(Permute)(lambda low, module, x: _permute(low, x, module.dims))
