"""Sums, scales and constants."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snn_lightning.graph.capture.lowering import Lowering, Mask, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule
from snn_lightning.graph.capture.remedies import REMEDIES
from snn_lightning.graph.capture.rules.activations import activation
from snn_lightning.graph.operators import Affine, Elementwise


def _channels(constant: Tensor, x: Value) -> Tensor | None:
    """Return a constant as one number a channel of `x` `[B, C, ...]`, or None if it is anything else."""
    if constant.numel() == 1:
        return constant.reshape(1).expand(x.shape[1])
    shape = [1] * (len(x.shape) - constant.dim()) + list(constant.shape)
    only_channels = len(shape) == len(x.shape) and shape[1] == x.shape[1] and math.prod(shape) == x.shape[1]
    return constant.reshape(-1) if only_channels else None


def affine(low: Lowering, x: Value, weight: Tensor | None, bias: Tensor | None) -> Value:
    """Write `weight * x + bias` with constants that are the same for every input of the batch."""
    parts = [None if part is None else _channels(part, x) for part in (weight, bias)]
    if any(full is not None and part is None for full, part in zip((weight, bias), parts, strict=True)):
        return _elementwise(low, x, weight, bias)
    module = Affine(x.shape[1]).to(low.result())
    for buffer, part in zip((module.weight, module.bias), parts, strict=True):
        if part is not None:
            buffer.copy_(part)
    return low.add("Affine", [x], {"channels": x.shape[1]}, module)


def _elementwise(low: Lowering, x: Value, weight: Tensor | None, bias: Tensor | None) -> Value:
    constants = [torch.empty(()) if part is None else part for part in (weight, bias)]
    for part in constants:
        if part.dim() > len(x.shape) or (part.dim() == len(x.shape) and part.shape[0] != 1):
            raise Unsupported(
                "a constant with a number for every input of the batch is part of the input; leave out its "
                "batch dimension"
            )
    shapes = {"weight_shape": tuple(constants[0].shape), "bias_shape": tuple(constants[1].shape)}
    module = Elementwise(**shapes).to(low.result())
    if weight is not None:
        module.weight.copy_(weight)
    if bias is not None:
        module.bias.copy_(bias)
    return low.add("Elementwise", [x], shapes, module)


def _add(low: Lowering, a: Any, b: Any, *, alpha: float = 1) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        return low.add("Add", [a, b], {"alpha": float(alpha)})
    if not isinstance(a, Value):
        if alpha != 1:
            b = low.add("Scale", [b], {"factor": float(alpha)})
        return _add(low, b, a)
    if isinstance(b, Tensor):
        return affine(low, a, None, b * alpha)
    return low.add("Scale", [a], {"factor": 1.0, "offset": float(b * alpha)})


def _in_place(rule: Callable[..., Value]) -> Callable[..., Value]:
    """Return the rule of the variant that leaves its result in its first argument."""
    return lambda low, a, *args, **kwargs: low.rebind(a, rule(low, a, *args, **kwargs))


function_rule(operator.add, torch.add, "add")(_add)
function_rule(operator.iadd, "add_")(_in_place(_add))


@function_rule(operator.sub, torch.sub, "sub")
def _sub(low: Lowering, a: Any, b: Any, *, alpha: float = 1) -> Value:
    if not isinstance(a, Value):
        return _add(low, low.add("Scale", [b], {"factor": -float(alpha)}), a)
    return _add(low, a, b, alpha=-alpha)


@function_rule(operator.mul, torch.mul, "mul")
def _mul(low: Lowering, a: Any, b: Any) -> Value:
    x, other = (a, b) if isinstance(a, Value) and not isinstance(a, Mask) else (b, a)
    if isinstance(other, Mask) and other.of(x):
        return activation(low, x, None)
    if isinstance(other, Value):
        raise Unsupported(REMEDIES["comparison" if isinstance(other, Mask) else "product"])
    if isinstance(other, Tensor):
        return affine(low, x, other, None)
    return low.add("Scale", [x], {"factor": float(other)})


@function_rule(operator.truediv, torch.div, "div")
def _div(low: Lowering, a: Any, b: Any) -> Value:
    if isinstance(b, Value):
        raise Unsupported("dividing by an activation is not a synapse; replace it by a fixed scale")
    return _mul(low, a, 1 / b)


function_rule(operator.isub, "sub_")(_in_place(_sub))
function_rule(operator.imul, "mul_")(_in_place(_mul))
function_rule(operator.itruediv, "div_")(_in_place(_div))


@function_rule(operator.neg, torch.neg, "neg")
def _neg(low: Lowering, x: Value) -> Value:
    return low.add("Scale", [x], {"factor": -1.0})
