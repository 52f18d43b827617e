"""The plain PyTorch version, on any device and for any floating type."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.spiking.functional import integrate_and_fire
from snn_lightning.spiking.kernels.layout import Layout


def simulate(
    current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool, overwrite: bool
) -> tuple[Tensor, Tensor]:
    """Simulate; see `kernels.simulate`."""
    if bias.count_nonzero():
        current = current + bias
    return integrate_and_fire(current, start, v_th, steps, static=static)


def count(
    current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool, pack: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Simulate and count; see `kernels.count`."""
    spikes, end = simulate(current, start, v_th, bias, steps, static, False)
    fired = spikes != 0
    bits = pack_bits(fired, Layout.of(current if static else current[0])) if pack else None
    return fired.sum(0).to(current.dtype), bits, end


def pack_bits(fired: Tensor, layout: Layout) -> Tensor:
    """Pack booleans `[T, N, C, ...]`; bit k of byte i of a row is its place 8 i + k."""
    flat = layout.dense(fired).view(fired.shape[0], layout.rows, layout.places).to(torch.uint8)
    flat = torch.nn.functional.pad(flat, (0, -layout.places % 8))
    packed = flat[..., ::8].clone()
    for k in range(1, 8):
        packed |= flat[..., k::8] << k
    return packed


def unpack(bits: Tensor, v_th: Tensor, layout: Layout) -> Tensor:
    """Unpack; see `kernels.unpack`."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    fired = (bits[..., None] >> shifts & 1).flatten(2)[..., : layout.places]
    memory, spikes = layout.empty(v_th, bits.shape[0])
    memory.view(fired.shape).copy_(fired)
    return spikes.mul_(v_th)


def histogram(x: Tensor, line: Tensor, scale: Tensor, table: Tensor) -> None:
    """Add activations to histograms; see `kernels.histogram`."""
    bins, flat = table.shape[1], table.view(-1, 2)
    rows = x.transpose(0, 1).flatten(1)
    index = (rows * scale[:, None].to(x.dtype)).long().clamp_(0, bins - 1) + line[:, None] * bins
    index, values = index[rows > 0], rows[rows > 0].double()
    flat[:, 0] += torch.bincount(index, minlength=len(flat))
    flat[:, 1] += torch.bincount(index, weights=values, minlength=len(flat))
