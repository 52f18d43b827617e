"""The sums, maxima and barriers of several processes; in this version there is a single one."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from snn_lightning.errors import CalibrationError

Object = TypeVar("Object")


class ProcessFailure(CalibrationError):
    """Another process has failed or ended; raised on all the others."""


class Communicator:
    """A single process. Subclasses connect several; every process must make the same calls in the same order.

    Attributes:
        rank: this process, from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of `tensor` over all processes."""
        return tensor

    def sum_unchecked(self, tensor: Tensor) -> Tensor:
        """Return the sum in a single reduction, without first asking whether a process has failed."""
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """Return the elementwise maximum of `tensor` over all processes."""
        return tensor

    def broadcast(self, value: Object) -> Object:
        """Return the value that process 0 passed."""
        return value

    def barrier(self) -> None:
        """Wait for all processes; raises if one of them has failed."""

    def fail(self, error: Exception) -> None:
        """Tell the other processes, at their next call, that this one has failed."""
