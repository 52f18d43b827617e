"""Fast forms of what neurons do at every time step, and of sums over activations.

Spikes, counts and bits equal those of the plain PyTorch version bit for bit, gradients and sums to rounding.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from snn_lightning.spiking.kernels import cpu, operators, reference
from snn_lightning.spiking.kernels.choice import KERNELS, chosen_kernel, fastest, use_kernel
from snn_lightning.spiking.kernels.layout import Layout

__all__ = [
    "KERNELS",
    "Layout",
    "chosen_kernel",
    "count",
    "cumulate",
    "error_sums",
    "histogram",
    "maxima_and_squares",
    "simulate",
    "sums_below",
    "unpack",
    "use_kernel",
]


def simulate(
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    *,
    static: bool = False,
    lowest: int = 0,
    highest: int = 1,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor]:
    """Simulate neurons with soft reset; integrate-and-fire (PC eq. 2-4) by default.

    `v += current + bias; n = clip(floor(v / v_th), -min(fired, -lowest), highest); v -= n * v_th; fired +=
    n`: `SignedNeuron` has `lowest` -1, `BurstNeuron` `highest` above 1. Gradients pass by a surrogate, see
    `surrogate.gradients`.

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        state: potential before the first step, `[N, C, ...]`, or `[C, ...]` for all images alike; where
            `lowest` is below 0, that and the net number of spikes fired, `[2, ...]`.
        v_th: threshold `[C, ...]`, activation units.
        bias: `[C, ...]`, added to the current at every step.
        steps: T.
        static: the same current comes at every step.
        lowest: the fewest spikes in one time step, 0 or less.
        highest: the most.
        overwrite: the spikes may take the memory of the currents.

    Returns:
        Spikes `[T, N, C, ...]` with values `n * v_th`, and the state after the last step.

    Example:
        >>> current, zero = torch.tensor([[0.5]]), torch.zeros(1)
        >>> spikes, potential = simulate(current, zero[None], torch.ones(1), zero, steps=4, static=True)
        >>> spikes.flatten(), potential
        (tensor([0., 1., 0., 1.]), tensor([[0.]]))
    """
    inputs, settings = (current, state, v_th, bias), (steps, static, lowest, highest)
    # What isn't traced, transformed or differentiated needs no operator, and may be overwritten.
    if torch.compiler.is_compiling() or type(current) is not Tensor:
        return operators.simulate(*inputs, *settings)
    if torch._C._are_functorch_transforms_active():
        return operators.Simulation.apply(*inputs, *settings)
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return operators.simulate(*inputs, *settings)
    return operators.run(*inputs, *settings, overwrite)


def count(
    current: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    *,
    static: bool = False,
    pack: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Simulate, and return how often each neuron fires rather than when; arguments as for `simulate`.

    Args:
        pack: return the spikes too, one bit each.

    Returns:
        Counts `[N, C, ...]` in the dtype of the currents, the bits `[T, rows, bytes]` (see `Layout`) or None,
        and the potential after the last step.

    Example:
        >>> current, zero = torch.tensor([[0.5]]), torch.zeros(1)
        >>> count(current, zero[None], torch.ones(1), zero, steps=4, static=True)
        (tensor([[2.]]), None, tensor([[0.]]))
    """
    return fastest(current).count(current, start, v_th, bias, steps, static, pack)


def unpack(bits: Tensor, v_th: Tensor, layout: Layout) -> Tensor:
    """Return the spikes `[T, N, C, ...]` with values {0, v_th} in the memory order they had.

    Args:
        bits: from `count`, `[T, rows, bytes]`, uint8.
        v_th: threshold `[C, ...]`; its dtype is that of the spikes.
        layout: of the currents that the bits came from.

    Example:
        >>> current, v_th, zero = torch.tensor([[0.5]]), torch.tensor([2.0]), torch.zeros(1)
        >>> _, bits, _ = count(current, zero[None], v_th, zero, steps=4, static=True, pack=True)
        >>> unpack(bits, v_th, Layout.of(current)).flatten()
        tensor([0., 0., 0., 2.])
    """
    return fastest(bits, v_th).unpack(bits, v_th, layout)


def histogram(x: Tensor, line: Tensor, scale: Tensor, table: Tensor) -> None:
    """Add activations to histograms of their positive values, in place.

    Args:
        x: `[N, C, ...]`.
        line: the histogram of each channel, `[C]`, int32.
        scale: number of bins over the largest activation of each channel, `[C]`.
        table: `[lines, bins, 2]`, float64: how many activations are in the bin, and their sum.

    Example:
        >>> x, table = torch.tensor([[0.5], [1.0]]), torch.zeros(1, 4, 2, dtype=torch.float64)
        >>> histogram(x, torch.zeros(1, dtype=torch.int32), torch.tensor([4.0]), table)
        >>> table.sum((0, 1))
        tensor([2.0000, 1.5000], dtype=torch.float64)
    """
    _statistics(x).histogram(x, line, scale, table)


def error_sums(x: Tensor, y: Tensor) -> Tensor:
    """Return the sums of `x - y`, `(x - y)^2` and `x^2` over each channel, `[3, C]`, float64.

    Args:
        x, y: `[N, C, ...]`, of equal shape.

    Example:
        >>> error_sums(torch.tensor([[3.0], [1.0]]), torch.ones(2, 1)).flatten()
        tensor([ 2.,  4., 10.], dtype=torch.float64)
    """
    return (_statistics(x, y) if x.dtype == y.dtype else reference).error_sums(x, y)


def maxima_and_squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum of each channel, never below 0, and its sum of squares (float64), both `[C]`.

    Args:
        x: `[N, C, ...]`.

    Example:
        >>> maxima_and_squares(torch.tensor([[3.0, -1.0], [1.0, -2.0]]))
        (tensor([3., 0.]), tensor([10.,  5.], dtype=torch.float64))
    """
    return _statistics(x).maxima_and_squares(x)


def cumulate(table: Tensor) -> None:
    """Cumulate histograms over their bins, in place; `table`: `[lines, bins, 2]`, float64, contiguous.

    Example:
        >>> table = torch.ones(1, 3, 2, dtype=torch.float64)
        >>> cumulate(table)
        >>> table[0, :, 0]
        tensor([1., 2., 3.], dtype=torch.float64)
    """
    _statistics(table).cumulate(table)


def sums_below(table: Tensor, position: Tensor, weight: Tensor) -> Tensor:
    """Return what lies below positions in cumulated histograms, added up over `size` positions.

    Args:
        table: `[lines, bins, 2]`, float64, contiguous, from `cumulate`.
        position: `[groups, size]` for all lines or `[lines, groups, size]`, float64, from 0 to the number of
            bins; p is below the first p bins, linear inside one.
        weight: of the first number of each pair, `[size]`, float64.

    Returns:
        `[lines, groups, 2]`, float64.

    Example:
        >>> table = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
        >>> sums_below(table, torch.tensor([[1.5]]).double(), torch.tensor([1.0]).double())
        tensor([[[2., 3.]]], dtype=torch.float64)
    """
    return _statistics(table).sums_below(table, position, weight)


def _statistics(*tensors: Tensor) -> ModuleType:
    # A GPU's own reductions are good.
    return cpu if fastest(*tensors) is cpu else reference
