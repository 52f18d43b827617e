"""Spike trains, packed to a few bits a neuron and time step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snn_lightning.spiking import kernels
from snn_lightning.spiking.kernels.reference import pack_bits

MOST = 7
"""Values of more than so many spikes a step are not looked upon as spikes."""


@dataclass(frozen=True)
class SpikeTrain:
    """A spike train `[T, N, C, ...]` with values {lowest, ..., lowest + 2^planes - 1} times amplitude.

    Args:
        bits: `[planes * T, rows, bytes]`, uint8, see `kernels.Layout`; plane p holds bit p of each step's
            number of spikes less `lowest`.
        amplitude: the value of a spike, `[]` or `[C, ...]` with ones behind the channels, activation units.
        layout: how the neurons lie in a row.
        lowest: the smallest number of spikes, 0 or less.
        planes: bits a neuron and step.
    """

    bits: Tensor
    amplitude: Tensor
    layout: kernels.Layout
    lowest: int = 0
    planes: int = 1

    @classmethod
    def pack(cls, counts: Tensor, amplitude: Tensor, lowest: int, highest: int) -> SpikeTrain:
        """Pack the numbers of spikes of each step, `[T, N, C, ...]`, all from `lowest` to `highest`."""
        layout, above = kernels.Layout.of(counts[0]), (counts - lowest).to(torch.uint8)
        planes = max((highest - lowest).bit_length(), 1)
        bits = [pack_bits(above >> p & 1, layout) for p in range(planes)]
        return cls(torch.cat(bits), amplitude, layout, lowest, planes)

    @classmethod
    def of(cls, spikes: Tensor) -> SpikeTrain | None:
        """Pack `spikes`, `[T, N, C, ...]`; None if a channel's values are no small multiples of one."""
        # Most values that are no spikes show it in their first image already.
        if multiples(spikes[:1, :1]) is None or (found := multiples(spikes)) is None:
            return None
        counts, amplitude = found
        lowest, highest = (int(bound) for bound in counts.aminmax())
        return cls.pack(counts, amplitude, min(lowest, 0), max(highest, 0))

    def unpack(self) -> Tensor:
        """Return the spikes `[T, N, C, ...]`, in the memory order they came in."""
        if self.planes == 1 and self.lowest == 0:
            return kernels.unpack(self.bits, self.amplitude, self.layout)
        one = torch.ones_like(self.amplitude)
        planes = kernels.unpack(self.bits, one, self.layout).chunk(self.planes)
        counts = planes[0]
        for p, plane in enumerate(planes[1:], 1):
            counts.add_(plane, alpha=2**p)
        return counts.add_(self.lowest).mul_(self.amplitude)

    def with_bits(self, bits: Tensor) -> SpikeTrain:
        """Return the same train with its bits elsewhere."""
        return replace(self, bits=bits)


def multiples(values: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Tensor] | None:
    """Return whole numbers and the amplitude of each channel whose products are `values`, or None.

    Args:
        values: `[T, N, C, ...]`.
        tolerance: by how much they may be off, over the amplitude.
    """
    size = values.abs()
    others = [d for d in range(values.dim()) if d != 2]
    amplitude = size.masked_fill_(size == 0, float("inf")).amin(others)
    # A channel that is silent has no amplitude.
    amplitude = amplitude.masked_fill(amplitude.isinf(), 0).view(-1, *[1] * (values.dim() - 3))
    counts = (values / amplitude).round_().nan_to_num_(0.0)
    off = (counts * amplitude - values).abs()
    if not ((off <= tolerance * amplitude) & (counts.abs() <= MOST)).all():
        return None
    return counts, amplitude
