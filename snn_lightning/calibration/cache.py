"""Where the sweep keeps live values: in memory up to a budget, then on disk; spike trains one bit a spike."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snn_lightning.errors import CalibrationError


class Cache:
    """Holds tensors in memory up to a budget and on disk beyond it.

    Args:
        budget_gb: memory budget in GB (10^9 bytes), None for no limit.
        directory: where the spilled tensors go; a temporary folder by default.
    """

    def __init__(self, budget_gb: float | None = None, directory: str | Path | None = None) -> None:
        self.budget = None if budget_gb is None else budget_gb * 1e9
        self.used = 0
        self._parent = directory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def put(self, tensor: Tensor) -> Entry:
        """Store `tensor`; read it back with `Entry.get`."""
        size = tensor.numel() * tensor.element_size()
        if self.budget is not None and self.used + size > self.budget:
            return Entry(self, 0, None, self._spill(tensor), tensor.device)
        self.used += size
        return Entry(self, size, tensor, None, tensor.device)

    def put_spikes(self, spikes: Tensor, amplitude: Tensor | None = None) -> Entry | PackedSpikes:
        """Store a spike train bit-packed, or as it is if it isn't {0, amplitude}.

        Args:
            spikes: `[T, N, C, ...]`.
            amplitude: the value of a spike, `[]` or `[C]`; read off the spikes where None.
        """
        if amplitude is None:
            amplitude = spikes.transpose(0, 2).flatten(1).amax(1)
            if not ((spikes == 0) | (spikes == _shaped(amplitude, spikes))).all():
                return self.put(spikes)
        order = _dense_order(spikes)
        dense = spikes.permute(order)
        return PackedSpikes(
            self.put(pack_bits(dense != 0)), tuple(dense.shape), order, amplitude, spikes.dtype
        )

    def close(self) -> None:
        """Delete what lies on disk."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _spill(self, tensor: Tensor) -> Path:
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="calibration_cache_", dir=self._parent)
            self._files += 1
            path = Path(self._folder.name) / f"{self._files}.pt"
            torch.save(tensor.cpu(), path)
        except (OSError, RuntimeError) as error:
            self.close()
            raise CalibrationError(
                f"The calibration cache could not be written to disk ({error}). Raise cache_budget_gb, use "
                "fewer calibration images, or set TMPDIR to a folder with more space."
            ) from error
        return path


@dataclass
class Entry:
    """A stored tensor."""

    cache: Cache
    size: int
    tensor: Tensor | None
    path: Path | None
    device: torch.device

    def get(self) -> Tensor:
        """Return the tensor."""
        if self.path is not None:
            return torch.load(self.path, map_location=self.device, weights_only=True)
        assert self.tensor is not None
        return self.tensor

    def free(self) -> None:
        """Give the memory or the file back."""
        self.cache.used -= self.size
        self.size, self.tensor = 0, None
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@dataclass
class PackedSpikes:
    """A stored spike train, one bit a neuron and time step."""

    bits: Entry
    shape: tuple[int, ...]
    order: tuple[int, ...]
    amplitude: Tensor
    dtype: torch.dtype

    def get(self) -> Tensor:
        """Return the spikes `[T, N, C, ...]` with values {0, amplitude}, in the memory order they came in."""
        dense = unpack_bits(self.bits.get(), self.shape).to(self.dtype)
        spikes = dense.permute([self.order.index(d) for d in range(len(self.order))])
        return spikes.mul_(_shaped(self.amplitude, spikes))

    def free(self) -> None:
        """Give the memory or the file back."""
        self.bits.free()


def pack_bits(spikes: Tensor) -> Tensor:
    """Return a boolean tensor of n elements as m = ceil(n / 8) bytes; bit k of byte i is element k m + i."""
    flat = spikes.reshape(-1).to(torch.uint8)
    length = (flat.numel() + 7) // 8
    blocks = torch.nn.functional.pad(flat, (0, 8 * length - flat.numel())).view(8, length)
    packed = blocks[0].clone()
    for k in range(1, 8):
        packed |= blocks[k] << k
    return packed


def unpack_bits(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the uint8 tensor of zeros and ones that `pack_bits` packed."""
    blocks = torch.stack([(packed >> k) & 1 for k in range(8)])
    return blocks.view(-1)[: torch.Size(shape).numel()].view(shape)


def _dense_order(x: Tensor) -> tuple[int, ...]:
    """Return the dimensions from the largest stride to the smallest: permuted so, `x` is contiguous."""
    strides = x.stride()
    return tuple(sorted(range(x.dim()), key=lambda d: (-strides[d], d)))


def _shaped(amplitude: Tensor, spikes: Tensor) -> Tensor:
    return amplitude.view(-1, *[1] * (spikes.dim() - 3)) if amplitude.dim() else amplitude
