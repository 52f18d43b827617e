"""Leaky activations: a pair of sites, one for each sign."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning.graph.capture.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule, module_rule
from snn_lightning.graph.capture.remedies import REMEDIES
from snn_lightning.graph.capture.rules.activations import activation
from snn_lightning.graph.capture.rules.arithmetic import affine


def _leaky(low: Lowering, x: Value, slope: float | Tensor, inplace: bool = False) -> Value:
    """Write a leaky ReLU as `relu(x) - slope * relu(-x)`: two sites, one for each sign of the current.

    Args:
        low: the lowering.
        x: the current `[N, C, ...]`.
        slope: of the negative side; any number, or a tensor of one number or of one a channel `[C]`.
        inplace: whether the result takes the place of `x`.
    """
    if isinstance(slope, Value):
        raise Unsupported(REMEDIES["product"])
    if not isinstance(slope, Tensor) and slope == 0:
        return activation(low, x, None, inplace)
    positive = activation(low, x, None)
    negative = activation(low, low.add("Scale", [x], {"factor": -1.0}), None)
    if isinstance(slope, Tensor):
        weight = slope.view(-1, *[1] * (len(x.shape) - 2))
        result = low.add("Add", [positive, affine(low, negative, -weight, None)], {"alpha": 1.0})
    else:
        result = low.add("Add", [positive, negative], {"alpha": -float(slope)})
    return low.rebind(x, result) if inplace else result


@function_rule(F.leaky_relu)
def _leaky_relu(low: Lowering, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return _leaky(low, x, negative_slope, inplace)


@function_rule(F.leaky_relu_)
def _leaky_relu_(low: Lowering, x: Value, negative_slope: float = 0.01) -> Value:
    return _leaky(low, x, negative_slope, True)


@function_rule(F.prelu, torch.prelu, "prelu")
def _prelu(low: Lowering, x: Value, weight: Tensor) -> Value:
    return _leaky(low, x, weight)


@function_rule(F.rrelu, torch.rrelu)
def _rrelu(
    low: Lowering,
    x: Value,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Value:
    if training:
        raise Unsupported("its slope is random in eval mode too; pass training=self.training")
    return _leaky(low, x, (lower + upper) / 2, inplace)


@function_rule(F.rrelu_, torch.rrelu_)
def _rrelu_(
    low: Lowering, x: Value, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> Value:
    return _rrelu(low, x, lower, upper, training, True)


@module_rule(nn.LeakyReLU, nn.PReLU, nn.RReLU)
def _leaky_module(low: Lowering, module: nn.LeakyReLU | nn.PReLU | nn.RReLU, x: Value) -> Value:
    if isinstance(module, nn.PReLU):
        return _leaky(low, x, module.weight.detach())
    if isinstance(module, nn.RReLU):
        return _rrelu(low, x, module.lower, module.upper, inplace=module.inplace)
    return _leaky(low, x, module.negative_slope, module.inplace)
