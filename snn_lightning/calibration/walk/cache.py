"""Where the sweep keeps live values: in memory up to a budget, then on disk; spike trains are packed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snn_lightning.calibration.walk.memory import trim_heap
from snn_lightning.errors import CalibrationError
from snn_lightning.spiking.packing import SpikeTrain

PLACES = ("device", "host", "disk")
TRIM_EVERY = 128
"""After so many values the heap is trimmed."""


class Cache:
    """Holds tensors in memory up to a budget and on disk beyond it.

    Args:
        budget_gb: memory budget in GB (10^9 bytes), None for no limit.
        place: "device" keeps them where they are computed, "host" in the memory of the host, copied while the
            device goes on, "disk" in files.
        directory: where the files go; a temporary folder by default.
    """

    def __init__(
        self, budget_gb: float | None = None, place: str = "device", directory: str | Path | None = None
    ) -> None:
        self.budget = None if budget_gb is None else budget_gb * 1e9
        self.place = place
        self.used = 0
        self._work = 0
        self._in_memory: dict[int, Entry] = {}
        self._parent = directory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0
        self._retired: list[Tensor] = []
        self._puts = 0

    def put(self, tensor: Tensor) -> Entry:
        """Store `tensor`; read it back with `Entry.get`."""
        self._puts += 1
        if self._puts % TRIM_EVERY == 0:
            trim_heap()
        entry = Entry(self, tensor.device, tensor)
        if self.place == "disk" or not self.has_room(tensor):
            entry.spill()
            return entry
        if self.place == "host" and tensor.is_cuda:
            copy = torch.empty_like(tensor, device="cpu", pin_memory=True)
            entry.tensor = copy.copy_(tensor, non_blocking=True)
        self.used += entry.size
        self._in_memory[id(entry)] = entry
        return entry

    def put_output(self, output: Tensor | SpikeTrain) -> Entry | StoredSpikes:
        """Store what a unit gave out over time; values `[T, N, C, ...]` that are spikes are packed."""
        train = output if isinstance(output, SpikeTrain) else SpikeTrain.of(output)
        if train is None:
            assert isinstance(output, Tensor)
            return self.put(output)
        # Not a part of the bits, which would keep all of them in memory.
        return StoredSpikes(self.put(train.bits), train.with_bits(train.bits.new_empty(0)))

    def has_room(self, tensor: Tensor) -> bool:
        """Whether `tensor` would stay in memory."""
        return self.budget is None or self.used + _size(tensor) <= self.budget

    def workspace(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return fresh memory that counts towards the budget until `release`; the oldest values make room."""
        self._retired.clear()
        tensor = torch.empty(shape, dtype=like.dtype, device=like.device)
        if tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        while self._in_memory and not self.has_room(tensor):
            next(iter(self._in_memory.values())).spill()
        self.used += _size(tensor)
        self._work += _size(tensor)
        return tensor

    def release(self) -> None:
        """Count the workspaces no longer, and give retired memory back."""
        self._retired.clear()
        self.used -= self._work
        self._work = 0

    def retire(self, entry: Entry) -> None:
        """Free an entry, but keep its memory until `free_retired`, for the next tensors like it.

        Large blocks that are freed go back to the system, and each of their pages costs a fault when they are
        allocated again. Without a budget and on the CPU only: a GPU keeps its memory by itself.
        """
        if self.budget is None and entry.tensor is not None and entry.device.type == "cpu":
            self._retired.append(entry.tensor)
        entry.free()

    def free_retired(self, tensor: Tensor) -> None:
        """Free as much retired memory as the next tensor like `tensor` will take."""
        size = _size(tensor)
        while self._retired and size > 0:
            size -= _size(self._retired.pop())

    def forget(self, entry: Entry) -> None:
        """Take an entry off the count of memory in use."""
        if self._in_memory.pop(id(entry), None) is not None:
            self.used -= entry.size

    def close(self) -> None:
        """Delete all files, and count no workspace."""
        self.release()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def write(self, tensor: Tensor) -> Path:
        """Write `tensor` to a file of its own.

        Raises:
            CalibrationError: it can't be written.
        """
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="calibration_cache_", dir=self._parent)
            self._files += 1
            path = Path(self._folder.name) / f"{self._files}.pt"
            # A view would take all of its storage along.
            torch.save(tensor.cpu().clone(memory_format=torch.preserve_format), path)
        except (OSError, RuntimeError) as error:
            self.close()
            raise CalibrationError(
                f"The calibration cache could not be written to disk ({error}). Raise cache_budget_gb, use "
                "fewer calibration images, or set TMPDIR to a folder with more space."
            ) from error
        return path


class Entry:
    """A stored tensor.

    Args:
        cache: that it belongs to.
        device: where `get` gives it.
        tensor: what is stored.

    Attributes:
        size: in bytes.
        shape: of the tensor.
    """

    def __init__(self, cache: Cache, device: torch.device, tensor: Tensor) -> None:
        self.cache, self.device = cache, device
        self.tensor: Tensor | None = tensor
        self.size, self.shape = _size(tensor), tensor.shape
        self.path: Path | None = None

    def get(self) -> Tensor:
        """Return the tensor."""
        if self.path is not None:
            return torch.load(self.path, map_location=self.device, weights_only=True)
        assert self.tensor is not None
        return self.tensor.to(self.device, non_blocking=True)

    def spill(self) -> None:
        """Move the tensor to disk."""
        assert self.tensor is not None
        if self.tensor.device != self.device:
            # Its copy may still be on the way.
            torch.accelerator.synchronize(self.device)
        self.path = self.cache.write(self.tensor)
        self.cache.forget(self)
        self.tensor = None

    def free(self) -> None:
        """Give the memory or the file back."""
        self.cache.forget(self)
        self.tensor = None
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@dataclass
class StoredSpikes:
    """A stored spike train, a few bits a neuron and time step."""

    bits: Entry
    train: SpikeTrain

    def get(self) -> Tensor:
        """Return the spikes `[T, N, C, ...]` in the memory order they came in."""
        return self.train.with_bits(self.bits.get()).unpack()

    def free(self) -> None:
        """Give the memory or the file back."""
        self.bits.free()


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
