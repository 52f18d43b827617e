"""Activations written as a comparison with zero."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from snn_lightning.graph.capture.lowering import Lowering, Mask, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule
from snn_lightning.graph.capture.remedies import REMEDIES
from snn_lightning.graph.capture.rules.activations import activation


def _is_zero(constant: Any) -> bool:
    if isinstance(constant, Tensor):
        # Without numbers there is only the form of the network.
        return constant.is_meta or not constant.any()
    return isinstance(constant, int | float) and constant == 0


def _check_shape(low: Lowering, x: Value) -> None:
    if low.result().shape != x.shape:
        raise Unsupported(
            f"its constant enlarges the activation from {tuple(x.shape[1:])} to "
            f"{tuple(low.result().shape[1:])}; use a constant that broadcasts to the activation, or ReLU"
        )


@function_rule(torch.maximum, "maximum")
def _maximum(low: Lowering, input: Any, other: Any) -> Value:
    x, constant = (input, other) if isinstance(input, Value) else (other, input)
    if not _is_zero(constant):
        raise Unsupported(
            "only the larger of an activation and zeros is a neuron; write torch.relu(a - b) + b, which is "
            "the same"
        )
    _check_shape(low, x)
    return activation(low, x, None)


@function_rule(torch.max, "max")
def _max(low: Lowering, input: Any, other: Any = None, *ignored: Any, **also_ignored: Any) -> Value:
    if not isinstance(other, Tensor | Value):
        raise Unsupported(
            "the largest value over a dimension is no neuron; use max pooling, such as nn.MaxPool2d"
        )
    return _maximum(low, input, other)


@function_rule(
    operator.gt,
    operator.ge,
    torch.gt,
    torch.ge,
    torch.greater,
    torch.greater_equal,
    "gt",
    "ge",
    "greater",
    "greater_equal",
)
def _above(low: Lowering, input: Any, other: Any) -> Mask:
    if not isinstance(input, Value) or isinstance(input, Mask) or not _is_zero(other):
        raise Unsupported(REMEDIES["comparison"])
    _check_shape(low, input)
    return Mask(input.name, input.shape)


@function_rule(torch.where)
def _where(low: Lowering, condition: Any, input: Any, other: Any) -> Value:
    if not isinstance(condition, Mask) or not condition.of(input) or not _is_zero(other):
        raise Unsupported(
            "only torch.where(x > 0, x, 0) is a neuron; use ReLU, LeakyReLU where the other side has a "
            "slope, or a product with a constant mask"
        )
    _check_shape(low, input)
    return activation(low, input, None)


function_rule("where")(lambda low, x, condition, other: _where(low, condition, x, other))


@function_rule(torch.zeros_like, "new_zeros")
def _zeros(low: Lowering, *ignored: Any, **also_ignored: Any) -> Any:
    return low.result()
