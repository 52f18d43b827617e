"""Synapses, batch norm and pooling, as modules and as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from snn_lightning.graph.capture.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule, module_rule
from snn_lightning.graph.capture.remedies import REMEDIES
from snn_lightning.graph.capture.rules.shapes import flatten
from snn_lightning.graph.operators import (
    MODULES,
    PositionwiseLinear,
    build,
    known_class,
    settings_of,
    traits_of,
)

BATCH_NORM = "BatchNorm"
"""Stands in the graph only until `passes.fold` has folded it or made it affine."""


@module_rule(*MODULES)
def _known_module(low: Lowering, module: nn.Module, x: Value) -> Value:
    if isinstance(module, nn.Flatten):
        return flatten(low, x, module.start_dim, module.end_dim)
    if getattr(module, "return_indices", False):
        raise Unsupported("the indices of a max pool can't be used; set return_indices=False")
    if traits_of(module).pools == "max" and getattr(module, "kernel_size", 0) in (1, (1,), (1, 1), (1, 1, 1)):
        # It compares nothing, and so needs no gate: the "mean" of each value by itself is the same.
        average: Any = traits_of(module).average
        module = average(1, module.stride, ceil_mode=module.ceil_mode)
    name, settings = known_class(module).__name__, settings_of(module)
    if isinstance(module, nn.Linear) and len(x.shape) > 2:
        name = PositionwiseLinear.__name__
    # Built anew: a subclass, a parametrisation or a hook of the user's stays behind, its weight does not.
    with torch.device("meta"):
        plain = build(name, settings)
    if traits_of(plain).weighted:
        _assign(plain, cast(Tensor, module.weight), cast("Tensor | None", module.bias))
    return low.add(name, [x], settings, plain)


@module_rule(_BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
def _batch_norm_module(low: Lowering, module: _BatchNorm, x: Value) -> Value:
    if module.running_mean is None:
        raise Unsupported(
            "it has no running statistics; build it with track_running_stats=True and train again"
        )
    return low.add(BATCH_NORM, [x], {}, module)


def _assign(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    module.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return module


@function_rule(F.linear)
def linear(low: Lowering, x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    """Write `x @ weight.T + bias` with constants `[out, in]` and `[out]`."""
    if not isinstance(weight, Tensor):
        raise Unsupported(REMEDIES["product"])
    with torch.device("meta"):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    _assign(module, weight, bias)
    return _known_module(low, module, x)


def _convolution(cls: type[nn.Conv1d | nn.Conv2d | nn.Conv3d]) -> Callable[..., Value]:
    def rule(
        low: Lowering,
        x: Value,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Value:
        if not isinstance(weight, Tensor):
            raise Unsupported(REMEDIES["product"])
        channels, kernel = weight.shape[1] * groups, cast(Any, tuple(weight.shape[2:]))
        with torch.device("meta"):
            module: nn.Module = cls(
                channels, weight.shape[0], kernel, stride, padding, dilation, groups, bias is not None
            )
        return _known_module(low, _assign(module, weight, bias), x)

    return rule


def _transposed_convolution(
    cls: type[nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d],
) -> Callable[..., Value]:
    def rule(
        low: Lowering,
        x: Value,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Value:
        if not isinstance(weight, Tensor):
            raise Unsupported(REMEDIES["product"])
        kernel = cast(Any, tuple(weight.shape[2:]))
        with torch.device("meta"):
            module = cls(
                weight.shape[0],
                weight.shape[1] * groups,
                kernel,
                stride,
                padding,
                output_padding,
                groups,
                bias is not None,
                dilation,
            )
        return _known_module(low, _assign(module, weight, bias), x)

    return rule


for _dims in (1, 2, 3):
    function_rule(getattr(F, f"conv{_dims}d"))(_convolution(getattr(nn, f"Conv{_dims}d")))
    _transposed = getattr(nn, f"ConvTranspose{_dims}d")
    function_rule(getattr(F, f"conv_transpose{_dims}d"))(_transposed_convolution(_transposed))


@function_rule(F.batch_norm)
def batch_norm(
    low: Lowering,
    x: Value,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    """Write `(x - mean) / sqrt(var + eps) * weight + bias` with constants `[C]`."""
    if training or mean is None or var is None:
        raise Unsupported("it normalises by the statistics of the batch; use running statistics in eval mode")
    module = nn.BatchNorm1d(mean.numel(), eps, affine=False)
    module.running_mean, module.running_var = mean, var
    if weight is not None:
        module.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return low.add(BATCH_NORM, [x], {}, module)


def _module_of(cls: type[nn.Module]) -> Callable[..., Value]:
    def rule(low: Lowering, x: Value, *args: Any, **kwargs: Any) -> Value:
        return _known_module(low, cls(*args, **kwargs), x)

    return rule


def _max_pool(cls: type[nn.Module]) -> Callable[..., Value]:
    def rule(
        low: Lowering,
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Value:
        return _known_module(low, cls(kernel_size, stride, padding, dilation, return_indices, ceil_mode), x)

    return rule


for _dims in (1, 2, 3):
    for _name, _kind in (("avg", "Avg"), ("adaptive_avg", "AdaptiveAvg"), ("adaptive_max", "AdaptiveMax")):
        function_rule(getattr(F, f"{_name}_pool{_dims}d"))(_module_of(getattr(nn, f"{_kind}Pool{_dims}d")))
    _names = (getattr(F, f"max_pool{_dims}d"), getattr(torch, f"max_pool{_dims}d"))
    function_rule(*_names)(_max_pool(getattr(nn, f"MaxPool{_dims}d")))

function_rule(F.pixel_shuffle)(_module_of(nn.PixelShuffle))
function_rule(F.pixel_unshuffle)(_module_of(nn.PixelUnshuffle))
function_rule(F.channel_shuffle)(_module_of(nn.ChannelShuffle))


@function_rule(F.interpolate)
def _interpolate(
    low: Lowering,
    x: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    **ignored: Any,
) -> Value:
    size = tuple(size) if isinstance(size, Sequence) else size
    if low.is_computed(1, "size"):
        # From shapes, which a network of any size keeps the ratio of.
        factors = {a / b for a, b in zip(low.result().shape[2:], x.shape[2:], strict=True)}
        if len(factors) == 1 and (factor := factors.pop()).is_integer():
            size, scale_factor = None, factor
    return _known_module(low, nn.Upsample(size, scale_factor, mode, align_corners), x)
