"""The CPU kernel: one pass over memory for all time steps."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import torch
from torch import Tensor

from snn_lightning.spiking.kernels import fused
from snn_lightning.spiking.kernels.layout import SMALL, Layout
from snn_lightning.spiking.kernels.native import library

SUFFIXES = {torch.float32: "float32", torch.float64: "float64"}


def usable(*tensors: Tensor) -> bool:
    """Whether the kernel can work on `tensors`."""
    here = all(x.device.type == "cpu" and not x.requires_grad for x in tensors)
    return here and tensors[-1].dtype in SUFFIXES and library() is not None


def launch(
    layout: Layout,
    current: Tensor,
    time_stride: int,
    start: Tensor,
    start_stride: int,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    *,
    end: Tensor,
    spikes: Tensor | None = None,
    counts: Tensor | None = None,
    bits: Tensor | None = None,
) -> None:
    """Run the kernel; see `fused.Launch`."""
    function = _function("integrate_and_fire", current.dtype)
    function(
        _pointer(current),
        *_whole(time_stride),
        _pointer(start),
        *_whole(start_stride),
        _pointer(v_th),
        _pointer(bias),
        *_whole(steps, layout.rows, layout.places),
        *map(_pointer, (spikes, end, counts, bits)),
        _threads(),
    )


simulate = partial(fused.simulate, launch)
count = partial(fused.count, launch)


def gradients(
    current: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    static: bool,
    to_spikes: Tensor,
    to_end: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients; see `surrogate.gradients`. What they need of the simulation is computed again."""
    layout, steps = Layout.of(current if static else current[0]), len(to_spikes)
    dense, to_spikes, after = layout.dense(current), layout.dense(to_spikes), layout.dense(to_end).clone()
    (inward, to_current), (upward, to_v_th) = layout.empty(current, steps), layout.empty(current)
    time_stride, start, start_stride, v_th, bias, steps = fused.arguments(
        layout, dense, start, v_th, bias, steps, static
    )
    function = _function("backward", current.dtype)
    function(
        _pointer(dense),
        *_whole(time_stride),
        _pointer(start),
        *_whole(start_stride),
        _pointer(v_th),
        _pointer(bias),
        *_whole(steps, layout.rows, layout.places),
        *map(_pointer, (to_spikes, after, inward, upward)),
        _threads(),
    )
    return to_current, layout.view(after), to_v_th


def unpack(bits: Tensor, v_th: Tensor, layout: Layout) -> Tensor:
    """Unpack; see `kernels.unpack`."""
    values = layout.parameter(v_th, v_th.dtype)
    memory, spikes = layout.empty(v_th, bits.shape[0])
    function = _function("unpack", v_th.dtype)
    rows = bits.shape[0] * layout.rows
    function(_pointer(bits), _pointer(values), *_whole(rows, layout.places), _pointer(memory), _threads())
    return spikes


def histogram(x: Tensor, line: Tensor, scale: Tensor, table: Tensor) -> None:
    """Add activations to histograms; see `kernels.histogram`."""
    line, scale = line.contiguous(), scale.to(x.dtype).contiguous()
    (x,), sizes = _channels(x)
    function = _function("histogram", x.dtype)
    function(*map(_pointer, (x, line, scale)), *_whole(*sizes, table.shape[1]), _pointer(table))


def error_sums(x: Tensor, y: Tensor) -> Tensor:
    """Compare activations; see `kernels.error_sums`."""
    sums = torch.zeros(3, x.shape[1], dtype=torch.float64)
    _moments(sums, None, x, y)
    return sums


def maxima_and_squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return maxima and sums of squares; see `kernels.maxima_and_squares`."""
    sums, maxima = torch.zeros(3, x.shape[1], dtype=torch.float64), torch.zeros(x.shape[1], dtype=x.dtype)
    _moments(sums, maxima, x)
    return maxima, sums[2]


def cumulate(table: Tensor) -> None:
    """Cumulate a histogram; see `kernels.cumulate`."""
    _function("cumulate")(_pointer(table), *_whole(*table.shape[:2]))


def sums_below(table: Tensor, position: Tensor, weight: Tensor) -> Tensor:
    """Add up entries of cumulated histograms; see `kernels.sums_below`."""
    position, groups = position.contiguous(), position.shape[-2]
    sums = table.new_empty(len(table), groups, 2)
    _function("sums_below")(
        *map(_pointer, (table, position)),
        *_whole(0 if position.dim() == 2 else position[0].numel()),
        _pointer(weight),
        *_whole(*table.shape[:2], groups, len(weight)),
        _pointer(sums),
    )
    return sums


def _moments(sums: Tensor, maxima: Tensor | None, *values: Tensor) -> None:
    values, sizes = _channels(*values)
    function = _function("moments", values[0].dtype)
    other = values[1] if len(values) > 1 else None
    function(*map(_pointer, (values[0], other)), *_whole(*sizes), *map(_pointer, (sums, maxima)))


def _channels(*values: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
    """Return tensors `[N, C, ...]` as contiguous memory in one order, and how the channels lie in it.

    Returns:
        The tensors, and the sizes of what stands before, in and behind the channels.
    """
    x = values[0]
    # Channels of a few places each are worth no loop.
    if x.dim() > 2 and (Layout.of(x).order[-1] == 1 or x.shape[2:].numel() < SMALL):
        values = tuple(value.movedim(1, -1).contiguous() for value in values)
        return values, (values[0][..., 0].numel(), x.shape[1], 1)
    return tuple(value.contiguous() for value in values), (x.shape[0], x.shape[1], x.shape[2:].numel())


def _function(name: str, dtype: torch.dtype | None = None) -> Any:
    return getattr(library(), name if dtype is None else f"{name}_{SUFFIXES[dtype]}")


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _whole(*numbers: int) -> tuple[ctypes.c_int64, ...]:
    return tuple(map(ctypes.c_int64, numbers))


def _threads() -> ctypes.c_int:
    return ctypes.c_int(torch.get_num_threads())
