"""The plain PyTorch version, on any device and for any floating type."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.spiking.kernels.layout import Layout
from snn_lightning.spiking.neurons import surrogate
from snn_lightning.spiking.neurons.dynamics import integrate_and_fire

AT_ONCE = 1 << 16
"""Entries of histograms added up at once."""


def simulate(
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool,
    overwrite: bool = False,
    lowest: int = 0,
    highest: int = 1,
) -> tuple[Tensor, Tensor]:
    """Simulate; see `kernels.simulate`."""
    layout = Layout.of(current if static else current[0])
    spikes, end = integrate_and_fire(current, state, v_th, bias, steps, static, lowest, highest)
    return layout.stack(spikes), end if lowest < 0 else layout.ordered(end)


def gradients(
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    spikes: Tensor,
    to_spikes: Tensor,
    to_end: Tensor,
    static: bool,
    lowest: int,
    highest: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients; see `surrogate.gradients`."""
    layout = Layout.of(spikes[0])
    to_current, *others = surrogate.gradients(
        current, state, v_th, bias, spikes, to_spikes, to_end, static, lowest, highest
    )
    to_start, to_v_th = map(layout.ordered, others)
    return layout.stack(to_current), to_start, to_v_th


def count(
    current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool, pack: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Simulate and count; see `kernels.count`."""
    spikes, end = simulate(current, start, v_th, bias, steps, static)
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


def error_sums(x: Tensor, y: Tensor) -> Tensor:
    """Compare activations; see `kernels.error_sums`."""
    error, others = x - y, [d for d in range(x.dim()) if d != 1]
    squares = [torch.linalg.vector_norm(v, dim=others, dtype=torch.float64).square() for v in (error, x)]
    return torch.stack([error.sum(others, dtype=torch.float64), *squares])


def maxima_and_squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return maxima and sums of squares; see `kernels.maxima_and_squares`."""
    others = [d for d in range(x.dim()) if d != 1]
    squares = torch.linalg.vector_norm(x, dim=others, dtype=torch.float64).square()
    return x.amax(others).clamp(min=0), squares


def cumulate(table: Tensor) -> None:
    """Cumulate a histogram; see `kernels.cumulate`."""
    table.cumsum_(1)


def sums_below(table: Tensor, position: Tensor, weight: Tensor) -> Tensor:
    """Add up entries of cumulated histograms; see `kernels.sums_below`."""
    lines, bins, _ = table.shape
    sums = []
    # As many groups at once as keep the work in the cache.
    for part in position.split(max(1, AT_ONCE // (lines * len(weight))), dim=-2):
        low = part.long()
        below, above = (_cumulated(table, index) for index in (low, (low + 1).clamp_(max=bins)))
        values = torch.lerp(below, above, (part - low)[..., None])
        sums.append(torch.stack([values[..., 0] @ weight, values[..., 1].sum(2)], dim=2))
    return torch.cat(sums, dim=1)


def _cumulated(table: Tensor, index: Tensor) -> Tensor:
    """Return the sum of the first `index` bins, `[groups, size]` or `[lines, groups, size]`, of each line."""
    inside = (index - 1).clamp_(min=0)
    if index.dim() == 2:
        values = table.index_select(1, inside.flatten())
    else:
        values = table.gather(1, inside.flatten(1)[..., None].expand(-1, -1, 2))
    return values.unflatten(1, index.shape[-2:]) * (index > 0)[..., None]
