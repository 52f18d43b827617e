"""How each torch module, function and tensor method is written in the package's vocabulary."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from snn_lightning.graph.lowering import (
    FUNCTION_RULES,
    MODULE_RULES,
    REMEDIES,
    Lowering,
    Unsupported,
    Value,
)
from snn_lightning.graph.operators import (
    SETTINGS,
    SYNAPSES,
    Affine,
    PositionwiseLinear,
    build,
    known_class,
    settings_of,
)

AnyRule = TypeVar("AnyRule", bound=Callable[..., Any])
BATCH_NORM = "BatchNorm"
"""Stands in the graph only until `graph.fold` has folded it or made it affine."""


def module_rule(*classes: type[nn.Module]) -> Callable[[AnyRule], AnyRule]:
    """Register the rule for calls of modules; it gets the lowering, the module and the arguments."""

    def register(rule: AnyRule) -> AnyRule:
        MODULE_RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def function_rule(*targets: Any) -> Callable[[AnyRule], AnyRule]:
    """Register the rule for calls of functions, or of tensor methods by name."""

    def register(rule: AnyRule) -> AnyRule:
        FUNCTION_RULES.update(dict.fromkeys(targets, rule))
        return rule

    return register


# Modules


@module_rule(*SETTINGS)
def _known_module(low: Lowering, module: nn.Module, x: Value) -> Value:
    settings = settings_of(module)
    if isinstance(module, nn.Flatten):
        return _flatten(low, x, settings["start_dim"], settings["end_dim"])
    if getattr(module, "return_indices", False):
        raise Unsupported("the indices of a max pool can't be used; set return_indices=False")
    name = known_class(module).__name__
    if isinstance(module, nn.Linear) and len(x.shape) > 2:
        name = PositionwiseLinear.__name__
    # Built anew: a subclass, a parametrisation or a hook of the user's stays behind, its weight does not.
    with torch.device("meta"):
        plain = build(name, settings)
    if isinstance(module, SYNAPSES):
        _assign(plain, module.weight, module.bias)
    return low.add(name, [x], settings, plain)


@module_rule(_BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
def _batch_norm_module(low: Lowering, module: _BatchNorm, x: Value) -> Value:
    if module.running_mean is None:
        raise Unsupported(
            "it has no running statistics; build it with track_running_stats=True and train again"
        )
    return low.add(BATCH_NORM, [x], {}, module)


@module_rule(nn.ReLU, nn.ReLU6, nn.Hardtanh)
def _activation_module(low: Lowering, module: nn.ReLU | nn.Hardtanh, x: Value) -> Value:
    if isinstance(module, nn.ReLU):
        return _activation(low, x, None, module.inplace)
    return _hardtanh(low, x, module.min_val, module.max_val, module.inplace)


@module_rule(
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout
)
def _identity_module(low: Lowering, module: nn.Module, x: Value) -> Value:
    return x


@module_rule(nn.Unflatten)
def _unflatten_module(low: Lowering, module: nn.Unflatten, x: Value) -> Value:
    return _reshape(low, x)


# Activations


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


# Synapses and pooling written as functions


def _assign(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    module.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return module


@function_rule(F.linear)
def _linear(low: Lowering, x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
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


for _function, _cls in ((F.conv1d, nn.Conv1d), (F.conv2d, nn.Conv2d), (F.conv3d, nn.Conv3d)):
    function_rule(_function)(_convolution(_cls))


@function_rule(F.batch_norm)
def _batch_norm(
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
    if training or mean is None or var is None:
        raise Unsupported("it normalises by the statistics of the batch; use running statistics in eval mode")
    module = nn.BatchNorm1d(mean.numel(), eps)
    module.running_mean, module.running_var = mean, var
    if weight is not None:
        module.weight.data = weight
    if bias is not None:
        module.bias.data = bias
    return low.add(BATCH_NORM, [x], {}, module)


def _pool(cls: type[nn.Module]) -> Callable[..., Value]:
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
    function_rule(getattr(F, f"avg_pool{_dims}d"))(_pool(getattr(nn, f"AvgPool{_dims}d")))
    function_rule(getattr(F, f"adaptive_avg_pool{_dims}d"))(_pool(getattr(nn, f"AdaptiveAvgPool{_dims}d")))
    function_rule(getattr(F, f"adaptive_max_pool{_dims}d"))(_pool(getattr(nn, f"AdaptiveMaxPool{_dims}d")))
    _names = (getattr(F, f"max_pool{_dims}d"), getattr(torch, f"max_pool{_dims}d"))
    function_rule(*_names)(_max_pool(getattr(nn, f"MaxPool{_dims}d")))


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
    return _known_module(low, nn.Upsample(size, scale_factor, mode, align_corners), x)


@function_rule(F.pad)
def _pad(
    low: Lowering, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Value:
    if mode != "constant":
        raise Unsupported(f"padding mode '{mode}' is not supported; use the padding_mode of the convolution")
    return low.add("Pad", [x], {"pad": tuple(pad), "value": float(value or 0.0)})


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


# Sums, scales, constants


def _channels(constant: Tensor, x: Value) -> Tensor | None:
    """Return a constant as one number a channel of `x` `[B, C, ...]`, or None if it is anything else."""
    if constant.numel() == 1:
        return constant.reshape(1).expand(x.shape[1])
    shape = [1] * (len(x.shape) - constant.dim()) + list(constant.shape)
    only_channels = len(shape) == len(x.shape) and shape[1] == x.shape[1] and math.prod(shape) == x.shape[1]
    return constant.reshape(-1) if only_channels else None


def _affine(low: Lowering, x: Value, weight: Tensor | None, bias: Tensor | None) -> Value:
    module = Affine(x.shape[1])
    for buffer, constant in ((module.weight, weight), (module.bias, bias)):
        if constant is not None:
            values = _channels(constant, x)
            if values is None:
                raise Unsupported(
                    "a constant of this shape is not one number a channel; use a linear layer instead"
                )
            buffer.copy_(values)
    return low.add("Affine", [x], {"channels": x.shape[1]}, module)


def _add(low: Lowering, a: Any, b: Any, *, alpha: float = 1) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        return low.add("Add", [a, b], {"alpha": float(alpha)})
    if not isinstance(a, Value):
        if alpha != 1:
            b = low.add("Scale", [b], {"factor": float(alpha)})
        return _add(low, b, a)
    if isinstance(b, Tensor):
        return _affine(low, a, None, b * alpha)
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
    if isinstance(a, Value) and isinstance(b, Value):
        raise Unsupported(REMEDIES["product"])
    x, other = (a, b) if isinstance(a, Value) else (b, a)
    if isinstance(other, Tensor):
        return _affine(low, x, other, None)
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


# Shapes


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
def _flatten(low: Lowering, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
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


def _register_torchvision() -> None:
    from torchvision.ops import Permute, StochasticDepth, stochastic_depth

    module_rule(StochasticDepth)(_identity_module)
    function_rule(stochastic_depth)(lambda low, x, *args, **kwargs: x)
    module_rule(Permute)(lambda low, module, x: _permute(low, x, module.dims))


_register_torchvision()
