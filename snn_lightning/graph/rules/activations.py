"""Activations, and what vanishes in eval mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth, stochastic_depth

from snn_lightning.graph.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.remedies import REMEDIES
from snn_lightning.graph.rules.arithmetic import affine
from snn_lightning.graph.rules.registry import function_rule, module_rule


def _activation(low: Lowering, x: Value, cap: float | None, inplace: bool = False) -> Value:
    if len(x.shape) < 2:
        raise Unsupported("a neuron needs a channel dimension; keep activations [N, C, ...]")
    site = low.add("Activation", [x], {"cap": cap})
    return low.rebind(x, site) if inplace else site


@function_rule(F.relu, torch.relu, "relu")
def _relu(low: Lowering, x: Value, inplace: bool = False) -> Value:
    return _activation(low, x, None, inplace)


@function_rule(torch.relu_, F.relu_, "relu_")
def _relu_(low: Lowering, x: Value) -> Value:
    return _activation(low, x, None, True)


@function_rule(F.relu6)
def _relu6(low: Lowering, x: Value, inplace: bool = False) -> Value:
    return _activation(low, x, 6.0, inplace)


@function_rule(F.hardtanh)
def _hardtanh(
    low: Lowering, x: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    if min_val != 0 or max_val <= 0:
        raise Unsupported(f"it clips to [{min_val}, {max_val}]; only [0, a] with a > 0 is a neuron's range")
    return _activation(low, x, float(max_val), inplace)


def _clamp_(inplace: bool) -> Callable[..., Value]:
    def clamp(low: Lowering, x: Value, min: float | None = None, max: float | None = None) -> Value:
        plain = not any(isinstance(bound, Tensor | Value) for bound in (min, max))
        if not plain or min != 0 or (max is not None and max <= 0):
            raise Unsupported("only clamp(min=0) and clamp(0, a) with plain numbers are a neuron's range")
        return _activation(low, x, None if max is None else float(max), inplace)

    return clamp


function_rule(torch.clamp, "clamp", torch.clip, "clip")(_clamp_(False))
function_rule("clamp_", torch.clamp_, "clip_", torch.clip_)(_clamp_(True))
function_rule("clamp_min", torch.clamp_min)(lambda low, x, min: _clamp_(False)(low, x, min))
function_rule("clamp_min_", torch.clamp_min_)(lambda low, x, min: _clamp_(True)(low, x, min))


@module_rule(nn.ReLU, nn.ReLU6, nn.Hardtanh)
def _activation_module(low: Lowering, module: nn.ReLU | nn.Hardtanh, x: Value) -> Value:
    if isinstance(module, nn.ReLU):
        return _activation(low, x, None, module.inplace)
    return _hardtanh(low, x, module.min_val, module.max_val, module.inplace)


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
        return _activation(low, x, None, inplace)
    positive = _activation(low, x, None)
    negative = _activation(low, low.add("Scale", [x], {"factor": -1.0}), None)
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


@module_rule(
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    StochasticDepth,
)
def _identity_module(low: Lowering, module: nn.Module, x: Value) -> Value:
    return x


@function_rule(
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    "contiguous",
    "detach",
    "float",
)
def _identity(low: Lowering, x: Value, *args: Any, training: bool = False, **kwargs: Any) -> Value:
    if training or (len(args) > 1 and args[1] is True):
        raise Unsupported("it drops values in eval mode too; pass training=self.training")
    return x


@function_rule(torch.clone, "clone")
def _clone(low: Lowering, x: Value, **ignored: Any) -> Value:
    # A value of its own: what is later done in place to the one does not show in the other.
    return low.add("Scale", [x], {"factor": 1.0})


function_rule(stochastic_depth)(lambda low, x, *args, **kwargs: x)
