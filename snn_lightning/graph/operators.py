"""The vocabulary of operators a network is normalised to.

Every operator is a stateless module on batch-first tensors `[B, C, ...]`, built from plain settings (numbers,
strings, tuples), so that a network can be described, stored and rebuilt without its author's code. All of
them except the max pools and the activation are affine: the mean over time of their outputs is their output
on the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV_SETTINGS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
)
TRANSPOSED_SETTINGS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "output_padding",
    "groups",
    "dilation",
)
AVG_SETTINGS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
MAX_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")


class PositionwiseLinear(nn.Linear):
    """A linear layer on `[B, C, ..., features]`, whose channels C are not its features.

    A threshold or a batch norm of the channels is not a factor of its weight's rows or columns.
    """


SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv1d: CONV_SETTINGS,
    nn.Conv2d: CONV_SETTINGS,
    nn.Conv3d: CONV_SETTINGS,
    nn.ConvTranspose1d: TRANSPOSED_SETTINGS,
    nn.ConvTranspose2d: TRANSPOSED_SETTINGS,
    nn.ConvTranspose3d: TRANSPOSED_SETTINGS,
    nn.Linear: ("in_features", "out_features"),
    PositionwiseLinear: ("in_features", "out_features"),
    nn.AvgPool1d: AVG_SETTINGS,
    nn.AvgPool2d: (*AVG_SETTINGS, "divisor_override"),
    nn.AvgPool3d: (*AVG_SETTINGS, "divisor_override"),
    nn.AdaptiveAvgPool1d: ("output_size",),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.AdaptiveAvgPool3d: ("output_size",),
    nn.MaxPool1d: MAX_SETTINGS,
    nn.MaxPool2d: MAX_SETTINGS,
    nn.MaxPool3d: MAX_SETTINGS,
    nn.AdaptiveMaxPool1d: ("output_size",),
    nn.AdaptiveMaxPool2d: ("output_size",),
    nn.AdaptiveMaxPool3d: ("output_size",),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.Upsample: ("size", "scale_factor", "mode", "align_corners"),
    nn.PixelShuffle: ("upscale_factor",),
    nn.PixelUnshuffle: ("downscale_factor",),
    nn.ChannelShuffle: ("groups",),
}
"""Modules taken over as they are, with the attributes that rebuild them."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SYNAPSES = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
MAX_POOLS = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)


class Activation(nn.Module):
    """A site of the ANN: `min(max(x, 0), cap)`.

    Args:
        cap: upper bound in activation units (6 for ReLU6), or None for ReLU.
    """

    def __init__(self, cap: float | None = None) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        """Clip `x`, of any shape."""
        return torch.relu(x) if self.cap is None else x.clamp(0.0, self.cap)


class Affine(nn.Module):
    """Per-channel affine map `weight_c * x_c + bias_c`: what is left of a batch norm that can't be folded.

    Args:
        channels: C of the inputs `[B, C, ...]`.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift `x` of shape `[B, C, ...]`."""
        shape = (-1, *[1] * (x.dim() - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)


class Elementwise(nn.Module):
    """`weight * x + bias` with constants that are not one number a channel, such as position parameters.

    Args:
        weight_shape, bias_shape: shapes that broadcast against `[B, ...]`; `()` where there is nothing to do.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight_shape: Sequence[int] = (), bias_shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(tuple(weight_shape)))
        self.register_buffer("bias", torch.zeros(tuple(bias_shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift `[B, ...]`."""
        return x * self.weight + self.bias


class Add(nn.Module):
    """Sum of its inputs, broadcast as torch does; `alpha` scales the second."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors `[B, ...]`."""
        return torch.add(a, b, alpha=self.alpha)


class Scale(nn.Module):
    """`factor * x + offset` with plain numbers."""

    def __init__(self, factor: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift a tensor of any shape."""
        x = x * self.factor if self.factor != 1.0 else x
        return x + self.offset if self.offset != 0.0 else x


class Cat(nn.Module):
    """Concatenation along `dim` (never the batch)."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *xs: Tensor) -> Tensor:
        """Concatenate tensors `[B, ...]`."""
        return torch.cat(xs, dim=self.dim)


class Reshape(nn.Module):
    """Reshape everything behind the batch to `shape`."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Reshape `[B, ...]` to `[B, *shape]`."""
        return x.reshape(x.shape[0], *self.shape)


class Permute(nn.Module):
    """Reorder dimensions; the batch stays first."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        """Permute `[B, ...]`."""
        return x.permute(self.dims)


class Narrow(nn.Module):
    """Every `step`-th of the part `start : start + length` along `dim`: an output of a split, or a slice."""

    def __init__(self, dim: int, start: int, length: int, step: int = 1) -> None:
        super().__init__()
        self.dim, self.start, self.length, self.step = dim, start, length, step

    def forward(self, x: Tensor) -> Tensor:
        """Cut `[B, ...]`."""
        x = x.narrow(self.dim, self.start, self.length)
        return x if self.step == 1 else x[(slice(None),) * self.dim + (slice(None, None, self.step),)]


class Mean(nn.Module):
    """Mean over `dims`: global average pooling written by hand."""

    def __init__(self, dims: Sequence[int], keepdim: bool = False) -> None:
        super().__init__()
        self.dims, self.keepdim = tuple(dims), keepdim

    def forward(self, x: Tensor) -> Tensor:
        """Average `[B, ...]` over `dims`."""
        return x.mean(self.dims, keepdim=self.keepdim)


class Sum(Mean):
    """Sum over `dims`."""

    def forward(self, x: Tensor) -> Tensor:
        """Add up `[B, ...]` over `dims`."""
        return x.sum(self.dims, keepdim=self.keepdim)


class Pad(nn.Module):
    """Padding as `torch.nn.functional.pad`; `mode` is "constant", "reflect", "replicate" or "circular"."""

    def __init__(self, pad: Sequence[int], value: float = 0.0, mode: str = "constant") -> None:
        super().__init__()
        self.pad, self.value, self.mode = tuple(pad), value, mode

    def forward(self, x: Tensor) -> Tensor:
        """Pad `[B, ...]`."""
        return F.pad(x, self.pad, self.mode, self.value if self.mode == "constant" else None)


FRESH = (*SYNAPSES, Affine, Elementwise, Add, Cat)
"""Operators whose output is memory of its own, never a view of an input."""

OWN = (Activation, Affine, Elementwise, Add, Scale, Cat, Reshape, Permute, Narrow, Mean, Sum, Pad)
OPERATORS: dict[str, Callable[..., nn.Module]] = {cls.__name__: cls for cls in (*SETTINGS, *OWN)}


def known_class(module: nn.Module) -> type[nn.Module]:
    """Return the class in `SETTINGS` that `module` is, or is a subclass of."""
    return next(cls for cls in type(module).__mro__ if cls in SETTINGS)


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Return the plain settings that rebuild a known `module` through `build`."""
    settings = {key: getattr(module, key) for key in SETTINGS[known_class(module)]}
    if isinstance(module, SYNAPSES):
        settings["bias"] = module.bias is not None
    return settings


def build(op: str, settings: dict[str, Any]) -> nn.Module:
    """Build the operator called `op`, with fresh parameters where it has any."""
    return OPERATORS[op](**settings)


def channels_lead(module: nn.Module) -> bool:
    """Whether `module` is a synapse whose weight's rows and columns are output and input channels.

    Transposed convolutions have it the other way round, `[in, out / groups, ...]`, and don't count.
    """
    return isinstance(module, SYNAPSES) and not isinstance(module, (PositionwiseLinear, *TRANSPOSED))
