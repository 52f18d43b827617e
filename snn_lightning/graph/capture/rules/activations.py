"""Activations that are one neuron."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning.graph.capture.bounded import BoundedActivation
from snn_lightning.graph.capture.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule, module_rule


def activation(low: Lowering, x: Value, cap: float | None, inplace: bool = False) -> Value:
    """Write a site, `min(max(x, 0), cap)`; in place, its result takes the place of `x`."""
    if len(x.shape) < 2:
        raise Unsupported("a neuron needs a channel dimension; keep activations [N, C, ...]")
    site = low.add("Activation", [x], {"cap": cap})
    return low.rebind(x, site) if inplace else site


@function_rule(F.relu, torch.relu, "relu")
def _relu(low: Lowering, x: Value, inplace: bool = False) -> Value:
    return activation(low, x, None, inplace)


@function_rule(torch.relu_, F.relu_, "relu_")
def _relu_(low: Lowering, x: Value) -> Value:
    return activation(low, x, None, True)


@function_rule(F.relu6)
def _relu6(low: Lowering, x: Value, inplace: bool = False) -> Value:
    return activation(low, x, 6.0, inplace)


@function_rule(F.hardtanh)
def _hardtanh(
    low: Lowering, x: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    if min_val != 0 or max_val <= 0:
        raise Unsupported(f"it clips to [{min_val}, {max_val}]; only [0, a] with a > 0 is a neuron's range")
    return activation(low, x, float(max_val), inplace)


@function_rule(F.hardtanh_)
def _hardtanh_(low: Lowering, x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    return _hardtanh(low, x, min_val, max_val, True)


def _clamp_(inplace: bool) -> Callable[..., Value]:
    def clamp(low: Lowering, x: Value, min: float | None = None, max: float | None = None) -> Value:
        plain = not any(isinstance(bound, Tensor | Value) for bound in (min, max))
        if not plain or min != 0 or (max is not None and max <= 0):
            raise Unsupported("only clamp(min=0) and clamp(0, a) with plain numbers are a neuron's range")
        return activation(low, x, None if max is None else float(max), inplace)

    return clamp


function_rule(torch.clamp, "clamp", torch.clip, "clip")(_clamp_(False))
function_rule("clamp_", torch.clamp_, "clip_", torch.clip_)(_clamp_(True))
function_rule("clamp_min", torch.clamp_min)(lambda low, x, min: _clamp_(False)(low, x, min))
function_rule("clamp_min_", torch.clamp_min_)(lambda low, x, min: _clamp_(True)(low, x, min))


@function_rule(F.threshold, torch.threshold)
def _threshold(low: Lowering, x: Value, threshold: float, value: float, inplace: bool = False) -> Value:
    if threshold != 0 or value != 0:
        raise Unsupported(
            f"it puts {value} where the input is not above {threshold}; only threshold 0 and value 0, which "
            "is ReLU, are a neuron"
        )
    return activation(low, x, None, inplace)


@function_rule(torch.threshold_)
def _threshold_(low: Lowering, x: Value, threshold: float, value: float) -> Value:
    return _threshold(low, x, threshold, value, True)


@module_rule(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)
def _activation_module(low: Lowering, module: nn.ReLU | nn.Hardtanh | nn.Threshold, x: Value) -> Value:
    if isinstance(module, nn.ReLU):
        return activation(low, x, None, module.inplace)
    if isinstance(module, nn.Threshold):
        return _threshold(low, x, module.threshold, module.value, module.inplace)
    return _hardtanh(low, x, module.min_val, module.max_val, module.inplace)


@module_rule(BoundedActivation)
def _capped(low: Lowering, module: BoundedActivation, x: Value) -> Value:
    if module.cap.is_meta:
        # Without numbers there is only the form of the network.
        return activation(low, x, None)
    cap = module.cap.item()
    if not 0 < cap < float("inf"):
        raise Unsupported(
            f"its cap is {cap:g}, and a neuron's must be positive and finite: train the ANN again with a "
            "smaller learning rate, or without weight decay on the caps"
        )
    return activation(low, x, cap)
