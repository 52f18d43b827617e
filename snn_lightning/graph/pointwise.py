"""Strided pointwise convolutions of few channels, whose weight gradient oneDNN writes beyond its buffer."""

from __future__ import annotations

from typing import TypeGuard

from torch import Tensor, nn

NARROW = 8
"""Channels of a vector of AVX2; oneDNN's kernel copies whole ones, also where there are fewer channels."""


def overruns(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a weight gradient of `module` may corrupt the heap.

    With channels innermost and on a CPU with AVX2 but no AVX-512, PyTorch hands a convolution with a kernel
    of 1 and a stride to oneDNN's `jit_avx2_1x1_convolution_bwd_weights` (up to 3.13 at least), whose copy of
    every n-th pixel overruns its buffer where a group has fewer channels than a vector.
    """
    return (
        isinstance(module, nn.Conv2d)
        and set(module.kernel_size) == {1}
        and set(module.stride) != {1}
        and module.in_channels // module.groups < NARROW
    )


def strided(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Return the pixels that a pointwise convolution with this stride reads.

    Args:
        x: its input `[B, C, H, W]`.
        stride: its stride; afterwards it is a convolution without one.
    """
    return x[:, :, :: stride[0], :: stride[1]]
