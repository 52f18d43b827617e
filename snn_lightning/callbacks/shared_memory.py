"""Reductions over the processes of one machine, through memory that they share."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from snn_lightning.calibration.walk.communicator import ProcessFailure

if sys.platform == "linux":
    import fcntl

FOLDER = Path("/dev/shm")
SLOT = 2**20
"""Bytes that a process can add at once."""

HEAD = 64
"""Bytes in which a process says how far it is and what it adds: a cache line."""

SPIN = 0.01
"""Seconds of waiting with the processor, before it is left to others for a while."""

NAP = 0.0005
"""Seconds for which it is left to them."""

LOOK = 1.0
"""Seconds between two looks whether the others still run."""

PATIENCE = 1800.0
"""Seconds that a process waits for others which do run: those of PyTorch's process groups."""


class SharedMemory:
    """Tensors of several processes of one machine, reduced in some 0.05 ms.

    Over gloo a reduction of 150 kB takes 0.5 ms, and now and then 3 where all cores compute: a thread that it
    wakes up waits behind them. Here a process writes its tensor into its slot, counts up, and looks at the
    others' counters until they have come as far. There are two slots each, in turn: who writes into one knows
    that all have read what was in it, since they have counted on.

    Each process locks a byte of the file, which the kernel unlocks when the process ends, however it does.

    Args:
        path: the file, of `size(world_size)` bytes; it may be deleted when all processes have opened it.
        rank: this process, from 0.
        world_size: number of processes.
        patience: seconds to wait for others which do run.

    Raises:
        OSError, RuntimeError: there is no such file, no room for it, or its file system has no locks.
    """

    def __init__(self, path: Path, rank: int, world_size: int, patience: float = PATIENCE) -> None:
        self.rank, self.world_size, self.patience = rank, world_size, patience
        self.file = path.open("r+b")
        try:
            shared = torch.from_file(str(path), shared=True, size=size(world_size), dtype=torch.uint8)
            # Only now: whoever closes the file, as the line above does, gives its locks up.
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
        except BaseException:
            self.file.close()
            raise
        heads, slots = shared.split([HEAD * world_size, 2 * SLOT * world_size])
        heads = heads.view(torch.int64).view(world_size, -1)
        self.counters, self.kinds = heads[:, 0], heads[:, 1:3].T
        self.slots = slots.view(2, world_size, SLOT)

    def takes(self, tensor: Tensor) -> bool:
        """Whether `tensor` lies in the processor's memory and is small enough."""
        return tensor.device.type == "cpu" and tensor.nbytes <= SLOT

    @torch.no_grad()
    def reduce(self, tensor: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the tensors of all processes combined in their order, the same bits on each.

        Raises:
            ProcessFailure: another process has ended, does not come, or adds up something else.
        """
        count, numbers = int(self.counters[self.rank]) + 1, tensor.flatten()
        kinds, slots = self.kinds[count % 2], self.slots[count % 2, :, : tensor.nbytes].view(tensor.dtype)
        slots[self.rank] = numbers
        kinds[self.rank] = kind = zlib.crc32(f"{combine.__name__} {tensor.dtype} {len(numbers)}".encode())
        # The others see what is stored in this order; see `available`.
        self.counters[self.rank] = count
        self._wait(count)
        for other in (kinds != kind).nonzero().flatten().tolist():
            raise ProcessFailure(
                f"Calibration stopped because process {other} adds up something else here. It has failed, as "
                "its own output says, or a step of your own calls its communicator in another order."
            )
        return reduce(combine, slots.unbind()).view(tensor.shape)

    def _wait(self, count: int) -> None:
        """Wait until all processes have written what they add."""
        begun = looked = time.monotonic()
        while (self.counters < count).any():
            now = time.monotonic()
            if now - begun < SPIN:
                os.sched_yield()
                continue
            time.sleep(NAP)
            if now - looked > LOOK:
                looked = now
                for other in (self.counters < count).nonzero().flatten().tolist():
                    self._look_after(other, count, now - begun)

    def _look_after(self, other: int, count: int, waited: float) -> None:
        """Raise if another process has ended, or does not come."""
        runs = self._runs(other)
        if self.counters[other] >= count:
            return  # It came, and may have ended, in the meantime.
        if not runs:
            raise ProcessFailure(
                f"Calibration stopped because process {other} has ended. Its own output says why; if it says "
                "nothing, the system may have killed it for its memory."
            )
        if waited > self.patience:
            raise ProcessFailure(
                f"Calibration stopped because process {other} runs, but has not come in "
                f"{waited / 60:.0f} minutes: all processes must calibrate the same stages together."
            )

    def _runs(self, other: int) -> bool:
        """Whether a process holds its lock."""
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, other)
        except OSError:
            return True
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, other)
        return False

    def close(self) -> None:
        """Give the lock up: this process comes no more."""
        self.file.close()


def size(world_size: int) -> int:
    """Return how many bytes so many processes share."""
    return (HEAD + 2 * SLOT) * world_size


def available() -> bool:
    """Whether a process sees what others store in the order in which they store it: on Linux on x86-64."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def create(world_size: int) -> Path | None:
    """Return a new file of zeros in memory for so many processes, or None where there can't be one."""
    if not available():
        return None
    try:
        handle, name = tempfile.mkstemp(prefix="snn_lightning_", dir=FOLDER)
    except OSError:
        return None
    try:
        # All of it now: memory that is full later would end the process.
        os.posix_fallocate(handle, 0, size(world_size))
    except OSError:
        os.unlink(name)
        return None
    finally:
        os.close(handle)
    return Path(name)
