"""The GPU kernel, in Triton: one pass over memory for all time steps, spikes packed on the way."""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from snn_lightning.spiking.kernels import fused
from snn_lightning.spiking.kernels.layout import Layout

BLOCK = 1024
"""Neurons a program; a multiple of 8."""


# Triton looks up the names in annotations, and refuses those that are not its own.
@triton.jit
def _integrate_and_fire(
    current: tl.tensor,
    start: tl.tensor,
    v_th: tl.tensor,
    bias: tl.tensor,
    spikes: tl.tensor,
    end: tl.tensor,
    counts: tl.tensor,
    bits: tl.tensor,
    time_stride: tl.tensor,
    start_stride: tl.tensor,
    step_size: tl.tensor,
    step_bytes: tl.tensor,
    row_bytes: tl.tensor,
    steps: tl.tensor,
    places: tl.tensor,
    blocks: tl.tensor,
    SPIKES: tl.constexpr,
    BITS: tl.constexpr,
    SIZE: tl.constexpr,
) -> None:
    """Simulate one block of one row; spikes are written if SPIKES, else counts, and bits if BITS."""
    program = tl.program_id(0).to(tl.int64)
    row, block = program // blocks, program % blocks
    place = block * SIZE + tl.arange(0, SIZE)
    inside = place < places
    neuron = row * places + place
    th = tl.load(v_th + place, mask=inside, other=1)
    add = tl.load(bias + place, mask=inside, other=0)
    v = tl.load(start + row * start_stride + place, mask=inside, other=0)
    # Not in the type of the potential, which may be too coarse to count in.
    count = tl.zeros((SIZE,), tl.int32)
    byte = block * (SIZE // 8) + tl.arange(0, SIZE // 8)
    weight = tl.full((8,), 1, tl.int32) << tl.arange(0, 8)
    current += neuron
    spikes += neuron
    bits += row * row_bytes + byte
    for _ in range(steps):
        x = v + (tl.load(current, mask=inside, other=0) + add)
        fires = (x >= th) & inside
        s = tl.where(fires, th, 0)
        v = x - s
        current += time_stride
        if SPIKES:
            tl.store(spikes, s, mask=inside)
            spikes += step_size
        else:
            count += fires.to(tl.int32)
            if BITS:
                eights = tl.reshape(fires.to(tl.int32), (SIZE // 8, 8))
                tl.store(bits, tl.sum(eights * weight[None, :], axis=1).to(tl.uint8), mask=byte < row_bytes)
                bits += step_bytes
    tl.store(end + neuron, v, mask=inside)
    if not SPIKES:
        tl.store(counts + neuron, count.to(v.dtype), mask=inside)


@triton.jit
def _unpack(
    bits: tl.tensor,
    v_th: tl.tensor,
    spikes: tl.tensor,
    row_bytes: tl.tensor,
    places: tl.tensor,
    blocks: tl.tensor,
    SIZE: tl.constexpr,
) -> None:
    """Unpack one block of one row."""
    program = tl.program_id(0).to(tl.int64)
    row, block = program // blocks, program % blocks
    place = block * SIZE + tl.arange(0, SIZE)
    inside = place < places
    byte = tl.load(bits + row * row_bytes + place // 8, mask=inside, other=0)
    fired = (byte.to(tl.int32) >> (place % 8).to(tl.int32)) & 1
    value = tl.load(v_th + place, mask=inside, other=0)
    tl.store(spikes + row * places + place, tl.where(fired == 1, value, 0), mask=inside)


def usable(*tensors: Tensor) -> bool:
    """Whether the kernel can work on `tensors`."""
    types = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    return all(x.is_cuda and not x.requires_grad for x in tensors) and tensors[-1].dtype in types


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
    rows, places = layout.rows, layout.places
    blocks, row_bytes = triton.cdiv(places, BLOCK), (places + 7) // 8
    # Triton launches on the current device, whatever the tensors' is.
    with torch.cuda.device_of(current):
        _integrate_and_fire[(rows * blocks,)](
            current,
            start,
            v_th,
            bias,
            # Where an output isn't wanted its pointer isn't used.
            end if spikes is None else spikes,
            end,
            end if counts is None else counts,
            end if bits is None else bits,
            time_stride,
            start_stride,
            rows * places,
            rows * row_bytes,
            row_bytes,
            steps,
            places,
            blocks,
            SPIKES=spikes is not None,
            BITS=bits is not None,
            SIZE=BLOCK,
        )


simulate = partial(fused.simulate, launch)
count = partial(fused.count, launch)


def unpack(bits: Tensor, v_th: Tensor, layout: Layout) -> Tensor:
    """Unpack; see `kernels.unpack`."""
    values = layout.parameter(v_th, v_th.dtype)
    memory, spikes = layout.empty(v_th, bits.shape[0])
    blocks = triton.cdiv(layout.places, BLOCK)
    grid = (bits.shape[0] * layout.rows * blocks,)
    with torch.cuda.device_of(bits):
        _unpack[grid](bits, values, memory, bits.shape[2], layout.places, blocks, SIZE=BLOCK)
    return spikes
