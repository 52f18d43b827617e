"""Spike trains, one bit a neuron and time step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from snn_lightning.spiking import kernels
from snn_lightning.spiking.kernels.reference import pack_bits


@dataclass(frozen=True)
class SpikeTrain:
    """A spike train `[T, N, C, ...]` with values {0, amplitude}.

    Args:
        bits: `[T, rows, bytes]`, uint8; see `kernels.Layout`.
        amplitude: the value of a spike, `[]` or `[C, ...]` with ones behind the channels, activation units.
        layout: how the neurons lie in a row.
    """

    bits: Tensor
    amplitude: Tensor
    layout: kernels.Layout

    @classmethod
    def of(cls, spikes: Tensor) -> SpikeTrain | None:
        """Pack `spikes`, `[T, N, C, ...]`; None if a channel has values other than 0 and one other."""
        image = spikes[0, 0].flatten(1) if spikes.dim() > 3 else spikes[0, 0][:, None]
        # Most values that are no spikes show it in their first image already.
        largest = image.amax(1, keepdim=True)
        if not ((image == 0) | (image == largest)).all():
            return None
        amplitude = spikes.amax([d for d in range(spikes.dim()) if d != 2])
        amplitude = amplitude.view(-1, *[1] * (spikes.dim() - 3))
        if not ((spikes == 0) | (spikes == amplitude)).all():
            return None
        layout = kernels.Layout.of(spikes[0])
        return cls(pack_bits(spikes != 0, layout), amplitude, layout)

    def unpack(self) -> Tensor:
        """Return the spikes `[T, N, C, ...]`, in the memory order they came in."""
        return kernels.unpack(self.bits, self.amplitude, self.layout)

    def with_bits(self, bits: Tensor) -> SpikeTrain:
        """Return the same train with its bits elsewhere."""
        return replace(self, bits=bits)
