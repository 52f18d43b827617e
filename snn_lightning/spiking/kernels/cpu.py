"""The CPU kernel: one pass over memory for all time steps."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from snn_lightning.spiking.kernels.layout import Layout
from snn_lightning.spiking.kernels.native import library

SUFFIXES = {torch.float32: "float32", torch.float64: "float64"}


def usable(*tensors: Tensor) -> bool:
    """Whether the kernel can work on `tensors`."""
    here = all(x.device.type == "cpu" and not x.requires_grad for x in tensors)
    return here and tensors[-1].dtype in SUFFIXES and library() is not None


def simulate(
    current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool, overwrite: bool
) -> tuple[Tensor, Tensor]:
    """Simulate; see `kernels.simulate`."""
    layout = Layout.of(current if static else current[0])
    dense = layout.dense(current)
    if overwrite and not static:
        memory, spikes = dense, layout.view(dense)
    else:
        memory, spikes = layout.empty(current, steps)
    end_memory, end = layout.empty(current)
    _call(layout, dense, start, v_th, bias, steps, static, spikes=memory, end=end_memory)
    return spikes, end


def count(
    current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool, pack: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Simulate and count; see `kernels.count`."""
    layout = Layout.of(current if static else current[0])
    (counts, counted), (end, ended) = layout.empty(current), layout.empty(current)
    bits = torch.empty((steps, layout.rows, (layout.places + 7) // 8), dtype=torch.uint8) if pack else None
    _call(layout, layout.dense(current), start, v_th, bias, steps, static, counts=counts, bits=bits, end=end)
    return counted, bits, ended


def unpack(bits: Tensor, v_th: Tensor, layout: Layout) -> Tensor:
    """Unpack; see `kernels.unpack`."""
    values = layout.parameter(v_th, v_th.dtype)
    memory, spikes = layout.empty(v_th, bits.shape[0])
    function = getattr(library(), f"unpack_{SUFFIXES[v_th.dtype]}")
    rows = bits.shape[0] * layout.rows
    function(_pointer(bits), _pointer(values), *_whole(rows, layout.places), _pointer(memory), _threads())
    return spikes


def histogram(x: Tensor, line: Tensor, scale: Tensor, table: Tensor) -> None:
    """Add activations to histograms; see `kernels.histogram`."""
    if x.dim() > 2 and Layout.of(x).order[-1] == 1:
        x = x.movedim(1, -1).contiguous()
        sizes = (x[..., 0].numel(), x.shape[-1], 1)
    else:
        x = x.contiguous()
        sizes = (x.shape[0], x.shape[1], x[0, 0].numel())
    line, scale = line.contiguous(), scale.to(x.dtype).contiguous()
    function = getattr(library(), f"histogram_{SUFFIXES[x.dtype]}")
    function(
        _pointer(x),
        _pointer(line),
        _pointer(scale),
        *_whole(*sizes, table.shape[1]),
        _pointer(table),
    )


def _call(
    layout: Layout,
    current: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool,
    **outputs: Tensor | None,
) -> None:
    dtype, places = current.dtype, layout.places
    if start.dim() == len(layout.shape):
        start, stride = layout.dense(start.to(dtype).expand(layout.shape)), places
    else:
        start, stride = layout.parameter(start, dtype), 0
    v_th, bias = layout.parameter(v_th, dtype), layout.parameter(bias, dtype)
    function = getattr(library(), f"integrate_and_fire_{SUFFIXES[dtype]}")
    function(
        _pointer(current),
        *_whole(0 if static else layout.rows * places),
        _pointer(start),
        *_whole(stride),
        _pointer(v_th),
        _pointer(bias),
        *_whole(steps, layout.rows, places),
        *(_pointer(outputs.get(name)) for name in ("spikes", "end", "counts", "bits")),
        _threads(),
    )


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _whole(*numbers: int) -> tuple[ctypes.c_int64, ...]:
    return tuple(map(ctypes.c_int64, numbers))


def _threads() -> ctypes.c_int:
    return ctypes.c_int(torch.get_num_threads())
