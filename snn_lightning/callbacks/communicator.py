"""The communicator of several processes, on a Lightning strategy."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

import torch
import torch.distributed as distributed
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from snn_lightning.calibration.walk.communicator import Communicator, ProcessFailure
from snn_lightning.callbacks.shared_memory import PATIENCE, SharedMemory, create

Object = TypeVar("Object")


class StrategyCommunicator(Communicator):
    """Reduces over the processes of a Trainer's strategy, which are all those of the default process group.

    Every call first asks whether a process has failed, so that an error on one is raised on all instead of
    leaving the others waiting. On CPUs of one machine small tensors go through `SharedMemory`.

    Args:
        strategy: the Trainer's strategy, with its process group set up.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, strategy: Strategy, rank: int, world_size: int) -> None:
        self.strategy, self.rank, self.world_size = strategy, rank, world_size
        self.shared = self._share() if world_size > 1 and strategy.root_device.type == "cpu" else None

    def _share(self) -> SharedMemory | None:
        """Return memory that all processes share, or None where one of them can't have it."""
        # All are here: the file is there for a moment only, whatever ends one of them.
        self._least(1.0)
        timeout = getattr(self.strategy, "_timeout", None)
        patience = PATIENCE if timeout is None else timeout.total_seconds()
        path = create(self.world_size) if self.rank == 0 else None
        try:
            there, shared = self.strategy.broadcast(path), None
            if there is not None:
                with suppress(OSError, RuntimeError):
                    shared = SharedMemory(there, self.rank, self.world_size, patience)
            if self._least(float(shared is not None)):
                return shared
            if shared is not None:
                shared.close()
            return None
        finally:
            if path is not None:
                # It stays as long as it is open.
                path.unlink(missing_ok=True)

    def _least(self, number: float) -> float:
        """Return the least of all processes' numbers."""
        tensor = torch.tensor(number)
        distributed.all_reduce(tensor, distributed.ReduceOp.MIN)
        return tensor.item()

    def close(self) -> None:
        """Let go of what the processes share; to be called when all is reduced."""
        if self.shared is not None:
            self.shared.close()

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of `tensor` over all processes."""
        self._check()
        return self.sum_unchecked(tensor)

    def sum_unchecked(self, tensor: Tensor) -> Tensor:
        """Return the sum in one reduction."""
        return self._reduce(tensor, distributed.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """Return the elementwise maximum over all processes."""
        self._check()
        return self._reduce(tensor, distributed.ReduceOp.MAX)

    def broadcast(self, value: Object) -> Object:
        """Return the value of process 0."""
        self._check()
        return self.strategy.broadcast(value)

    def barrier(self) -> None:
        """Wait for all processes."""
        self._check()

    def fail(self, error: Exception) -> None:
        """Let the others raise `ProcessFailure` at their next call."""
        if not isinstance(error, ProcessFailure):
            # Where they are in the middle of something else, this stops all, and the error is raised here.
            with suppress(ProcessFailure):
                self._check(error)

    def _check(self, error: Exception | None = None) -> None:
        flag = torch.tensor(
            [float(self.rank + 1 if error is not None else 0)], device=self.strategy.root_device
        )
        failed = int(self._reduce(flag, distributed.ReduceOp.MAX).item())
        if failed:
            message = self.strategy.broadcast(f"{type(error).__name__}: {error}", src=failed - 1)
            if error is None:
                raise ProcessFailure(
                    f"Calibration stopped because process {failed - 1} failed with {message}"
                )

    def _reduce(self, tensor: Tensor, operation: distributed.ReduceOp.RedOpType) -> Tensor:
        if self.shared is not None and self.shared.takes(tensor):
            return self.shared.reduce(
                tensor, torch.add if operation == distributed.ReduceOp.SUM else torch.maximum
            )
        tensor = tensor.contiguous()
        if self.world_size > 1:
            # The strategy's own reduction waits at a barrier first, and takes twice as long.
            distributed.all_reduce(tensor, operation)
        return tensor
