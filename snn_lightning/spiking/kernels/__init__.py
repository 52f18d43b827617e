"""Fast forms of what neurons do at every time step, and of sums over activations.

Spikes, counts and bits equal those of the plain PyTorch version bit for bit, gradients and sums to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType

from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.spiking.kernels import cpu, reference
from snn_lightning.spiking.kernels.layout import Layout

__all__ = [
    "KERNELS",
    "Layout",
    "can_differentiate",
    "chosen_kernel",
    "count",
    "cumulate",
    "error_sums",
    "gradients",
    "histogram",
    "maxima_and_squares",
    "simulate",
    "sums_below",
    "unpack",
    "use_kernel",
]

KERNELS = ("auto", "reference")

_chosen: ContextVar[str] = ContextVar("kernel", default="")


def chosen_kernel() -> str:
    """Return what `use_kernel` or else the environment variable SNN_LIGHTNING_KERNEL names; "auto" if unset.

    Raises:
        SettingsError: it is no kernel.
    """
    name = _chosen.get() or os.environ.get("SNN_LIGHTNING_KERNEL") or "auto"
    if name not in KERNELS:
        raise SettingsError(
            f"kernel (SNN_LIGHTNING_KERNEL) must be one of {', '.join(KERNELS)}, got {name!r}"
        )
    return name


@contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Run neurons with the kernel `name` inside the context.

    Args:
        name: "auto" takes the fastest that this device, type and machine have, "reference" plain PyTorch.
    """
    token = _chosen.set(name)
    try:
        chosen_kernel()
        yield
    finally:
        _chosen.reset(token)


def simulate(
    current: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    *,
    static: bool = False,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor]:
    """Simulate integrate-and-fire neurons with soft reset (PC eq. 2-4).

    `v += current + bias; s = v_th * (v >= v_th); v -= s`

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        start: potential before the first step, `[N, C, ...]`, or `[C, ...]` for all images alike.
        v_th: threshold `[C, ...]`, activation units.
        bias: `[C, ...]`, added to the current at every step.
        steps: T.
        static: the same current comes at every step.
        overwrite: the spikes may take the memory of the currents.

    Returns:
        Spikes `[T, N, C, ...]` with values {0, v_th}, and the potential after the last step.
    """
    return _module(current).simulate(current, start, v_th, bias, steps, static, overwrite)


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
    """
    return _module(current).count(current, start, v_th, bias, steps, static, pack)


def can_differentiate(*tensors: Tensor) -> bool:
    """Whether `gradients` can work on `tensors`."""
    return _module(*tensors) is cpu


def gradients(
    current: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool,
    to_spikes: Tensor,
    to_end: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `simulate` by the surrogate of `spiking.surrogate`; other arguments as there.

    Args:
        to_spikes: the gradient of the spikes, `[T, N, C, ...]`.
        to_end: that of the potential after the last step, `[N, C, ...]`.

    Returns:
        The gradients of the current at each step, `[T, N, C, ...]`, of the potential before the first one and
        of the threshold, `[N, C, ...]`. That of the bias is the sum of the first over time.
    """
    return cpu.gradients(current, start, v_th, bias, steps, static, to_spikes, to_end)


def unpack(bits: Tensor, v_th: Tensor, layout: Layout) -> Tensor:
    """Return the spikes `[T, N, C, ...]` with values {0, v_th} in the memory order they had.

    Args:
        bits: from `count`, `[T, rows, bytes]`, uint8.
        v_th: threshold `[C, ...]`; its dtype is that of the spikes.
        layout: of the currents that the bits came from.
    """
    return _module(bits, v_th).unpack(bits, v_th, layout)


def histogram(x: Tensor, line: Tensor, scale: Tensor, table: Tensor) -> None:
    """Add activations to histograms of their positive values, in place.

    Args:
        x: `[N, C, ...]`.
        line: the histogram of each channel, `[C]`, int32.
        scale: number of bins over the largest activation of each channel, `[C]`.
        table: `[lines, bins, 2]`, float64: how many activations are in the bin, and their sum.
    """
    _statistics(x).histogram(x, line, scale, table)


def error_sums(x: Tensor, y: Tensor) -> Tensor:
    """Return the sums of `x - y`, `(x - y)^2` and `x^2` over each channel, `[3, C]`, float64.

    Args:
        x, y: `[N, C, ...]`, of equal shape.
    """
    return (_statistics(x, y) if x.dtype == y.dtype else reference).error_sums(x, y)


def maxima_and_squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum of each channel, never below 0, and its sum of squares (float64), both `[C]`.

    Args:
        x: `[N, C, ...]`.
    """
    return _statistics(x).maxima_and_squares(x)


def cumulate(table: Tensor) -> None:
    """Cumulate histograms over their bins, in place; `table`: `[lines, bins, 2]`, float64, contiguous."""
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
    """
    return _statistics(table).sums_below(table, position, weight)


def _statistics(*tensors: Tensor) -> ModuleType:
    # A GPU's own reductions are good.
    return cpu if _module(*tensors) is cpu else reference


def _module(*tensors: Tensor) -> ModuleType:
    if chosen_kernel() == "auto":
        if cpu.usable(*tensors):
            return cpu
        if tensors[0].is_cuda and (gpu := _gpu()) is not None and gpu.usable(*tensors):
            return gpu
    return reference


@cache
def _gpu() -> ModuleType | None:
    # Imported only where there is a GPU: Triton takes a second to load.
    try:
        from snn_lightning.spiking.kernels import gpu
    except ImportError:
        return None
    return gpu
