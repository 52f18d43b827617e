"""The package's own operators: what torch has no module for.

Every operator is a stateless module on batch-first tensors `[B, C, ...]`, built from plain settings (numbers,
strings, tuples), so that a network can be described, stored and rebuilt without its author's code. All of
them except the max pools and the activation are affine: the mean over time of their outputs is their output
on the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning.graph.operators.table import register_operator
from snn_lightning.graph.operators.torch_modules import LINEAR
from snn_lightning.graph.operators.traits import Adding, Averaging, Shifting, Traits


@register_operator
class PositionwiseLinear(nn.Linear):
    """A linear layer on `[B, C, ..., features]`, whose channels C are not its features.

    A threshold or a batch norm of the channels is not a factor of its weight's rows or columns.

    Example:
        >>> PositionwiseLinear(4, 2)(torch.rand(8, 3, 4)).shape
        torch.Size([8, 3, 2])
    """

    traits = replace(LINEAR, channels_lead=False)


@register_operator
class Activation(nn.Module):
    """A site of the ANN: `min(max(x, 0), cap)`.

    Args:
        cap: upper bound in activation units (6 for ReLU6), or None for ReLU.

    Example:
        >>> Activation(cap=6.0)(torch.tensor([-1.0, 3.0, 9.0]))
        tensor([0., 3., 6.])
    """

    traits = Traits(linear=False, fresh=True)

    def __init__(self, cap: float | None = None) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        """Clip `x`, of any shape."""
        return torch.relu(x) if self.cap is None else x.clamp(0.0, self.cap)


@register_operator
class Affine(nn.Module):
    """Per-channel affine map `weight_c * x_c + bias_c`: what is left of a batch norm that can't be folded.

    Args:
        channels: C of the inputs `[B, C, ...]`.

    Example:
        >>> affine = Affine(channels=2)
        >>> affine.bias = torch.tensor([1.0, 2.0])
        >>> affine(torch.zeros(1, 2))
        tensor([[1., 2.]])
    """

    traits = Shifting(fresh=True)
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


@register_operator
class Elementwise(nn.Module):
    """`weight * x + bias` with constants that are not one number a channel, such as position parameters.

    Args:
        weight_shape, bias_shape: shapes that broadcast against `[B, ...]`; `()` where there is nothing to do.

    Example:
        >>> positions = Elementwise(bias_shape=(2, 2))
        >>> positions.bias = torch.eye(2)
        >>> positions(torch.zeros(1, 2, 2))
        tensor([[[1., 0.],
                 [0., 1.]]])
    """

    traits = Shifting(fresh=True)
    weight: Tensor
    bias: Tensor

    def __init__(self, weight_shape: Sequence[int] = (), bias_shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(tuple(weight_shape)))
        self.register_buffer("bias", torch.zeros(tuple(bias_shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift `[B, ...]`."""
        return x * self.weight + self.bias


@register_operator
class Add(nn.Module):
    """Sum of its inputs, broadcast as torch does; `alpha` scales the second.

    Example:
        >>> Add(alpha=-1.0)(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
        tensor([[2.]])
    """

    traits = Adding(fresh=True)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors `[B, ...]`."""
        return torch.add(a, b, alpha=self.alpha)


@register_operator
class Scale(nn.Module):
    """`factor * x + offset` with plain numbers.

    Example:
        >>> Scale(factor=2.0, offset=1.0)(torch.tensor([[3.0]]))
        tensor([[7.]])
    """

    traits = Shifting()

    def __init__(self, factor: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift a tensor of any shape."""
        x = x * self.factor if self.factor != 1.0 else x
        return x + self.offset if self.offset != 0.0 else x


@register_operator
class Cat(nn.Module):
    """Concatenation along `dim` (never the batch)."""

    traits = Traits(moves=True, fresh=True)

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *xs: Tensor) -> Tensor:
        """Concatenate tensors `[B, ...]`."""
        return torch.cat(xs, dim=self.dim)


@register_operator
class Reshape(nn.Module):
    """Reshape everything behind the batch to `shape`."""

    traits = Traits(moves=True)

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Reshape `[B, ...]` to `[B, *shape]`."""
        return x.reshape(x.shape[0], *self.shape)


@register_operator
class Permute(nn.Module):
    """Reorder dimensions; the batch stays first."""

    traits = Traits(moves=True)

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        """Permute `[B, ...]`."""
        return x.permute(self.dims)


@register_operator
class Narrow(nn.Module):
    """Every `step`-th of the part `start : start + length` along `dim`: an output of a split, or a slice."""

    traits = Traits(moves=True)

    def __init__(self, dim: int, start: int, length: int, step: int = 1) -> None:
        super().__init__()
        self.dim, self.start, self.length, self.step = dim, start, length, step

    def forward(self, x: Tensor) -> Tensor:
        """Cut `[B, ...]`."""
        x = x.narrow(self.dim, self.start, self.length)
        return x if self.step == 1 else x[(slice(None),) * self.dim + (slice(None, None, self.step),)]


@register_operator
class Mean(nn.Module):
    """Mean over `dims`: global average pooling written by hand.

    Example:
        >>> Mean(dims=(2, 3))(torch.ones(8, 3, 4, 4)).shape
        torch.Size([8, 3])
    """

    traits: Traits = Averaging()

    def __init__(self, dims: Sequence[int], keepdim: bool = False) -> None:
        super().__init__()
        self.dims, self.keepdim = tuple(dims), keepdim

    def forward(self, x: Tensor) -> Tensor:
        """Average `[B, ...]` over `dims`."""
        return x.mean(self.dims, keepdim=self.keepdim)


@register_operator
class Sum(Mean):
    """Sum over `dims`.

    Example:
        >>> Sum(dims=(1,))(torch.tensor([[1.0, 2.0]]))
        tensor([3.])
    """

    traits = Traits()

    def forward(self, x: Tensor) -> Tensor:
        """Add up `[B, ...]` over `dims`."""
        return x.sum(self.dims, keepdim=self.keepdim)


@register_operator
class Pad(nn.Module):
    """Padding as `torch.nn.functional.pad`; `mode` is "constant", "reflect", "replicate" or "circular"."""

    def __init__(self, pad: Sequence[int], value: float = 0.0, mode: str = "constant") -> None:
        super().__init__()
        self.pad, self.value, self.mode = tuple(pad), value, mode

    def forward(self, x: Tensor) -> Tensor:
        """Pad `[B, ...]`."""
        return F.pad(x, self.pad, self.mode, self.value if self.mode == "constant" else None)
