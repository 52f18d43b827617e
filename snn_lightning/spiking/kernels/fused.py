"""What the fused kernels of all devices have in common: memory for their outputs, parameters in its order."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from snn_lightning.spiking.kernels.layout import Layout


class Launch(Protocol):
    """Runs a device's kernel over `[T, rows, places]`; the arguments are those of cpu.c."""

    def __call__(
        self,
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
        """Fill the outputs."""


def simulate(
    launch: Launch,
    current: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool,
    overwrite: bool,
) -> tuple[Tensor, Tensor]:
    """Simulate; see `kernels.simulate`."""
    layout = Layout.of(current if static else current[0])
    dense = layout.dense(current)
    if overwrite and not static:
        memory, spikes = dense, layout.view(dense)
    else:
        memory, spikes = layout.empty(current, steps)
    end, ended = layout.empty(current)
    launch(layout, dense, *arguments(layout, dense, start, v_th, bias, steps, static), end=end, spikes=memory)
    return spikes, ended


def count(
    launch: Launch,
    current: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool,
    pack: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Simulate and count; see `kernels.count`."""
    layout = Layout.of(current if static else current[0])
    dense = layout.dense(current)
    (counts, counted), (end, ended) = layout.empty(current), layout.empty(current)
    size = (steps, layout.rows, (layout.places + 7) // 8)
    bits = torch.empty(size, dtype=torch.uint8, device=current.device) if pack else None
    values = arguments(layout, dense, start, v_th, bias, steps, static)
    launch(layout, dense, *values, end=end, counts=counts, bits=bits)
    return counted, bits, ended


def arguments(
    layout: Layout, current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool
) -> tuple[Any, ...]:
    """Return what kernels take between the currents and the outputs, in the memory order of `layout`."""
    dtype = current.dtype
    if start.dim() == len(layout.shape):
        start, start_stride = layout.dense(start.to(dtype).expand(layout.shape)), layout.places
    else:
        start, start_stride = layout.parameter(start, dtype), 0
    time_stride = 0 if static else layout.rows * layout.places
    v_th, bias = layout.parameter(v_th, dtype), layout.parameter(bias, dtype)
    return time_stride, start, start_stride, v_th, bias, steps
