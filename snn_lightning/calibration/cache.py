"""Where the sweep keeps live values: in memory up to a budget, then on disk; spike trains one bit a spike."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snn_lightning.errors import CalibrationError
from snn_lightning.spiking.packing import SpikeTrain


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
        if not self.has_room(tensor):
            return Entry(self, 0, None, self._spill(tensor), tensor.device)
        self.used += size
        return Entry(self, size, tensor, None, tensor.device)

    def put_output(self, output: Tensor | SpikeTrain) -> Entry | StoredSpikes:
        """Store what a unit gave out over time; values `[T, N, C, ...]` that are spikes are packed."""
        train = output if isinstance(output, SpikeTrain) else SpikeTrain.of(output)
        if train is None:
            assert isinstance(output, Tensor)
            return self.put(output)
        return StoredSpikes(self.put(train.bits), train.with_bits(train.bits[:0]))

    def has_room(self, tensor: Tensor) -> bool:
        """Whether `tensor` would stay in memory."""
        return self.budget is None or self.used + tensor.numel() * tensor.element_size() <= self.budget

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
class StoredSpikes:
    """A stored spike train, one bit a neuron and time step."""

    bits: Entry
    train: SpikeTrain

    def get(self) -> Tensor:
        """Return the spikes `[T, N, C, ...]` with values {0, amplitude}, in the memory order they came in."""
        return self.train.with_bits(self.bits.get()).unpack()

    def free(self) -> None:
        """Give the memory or the file back."""
        self.bits.free()
