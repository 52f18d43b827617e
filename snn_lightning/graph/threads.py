"""What belongs to the whole process: its threads do it one at a time, or together if they want the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch

_LOCK = threading.RLock()


@contextmanager
def alone(devices: Sequence[int] | None = None) -> Iterator[None]:
    """Do what two threads must not do at once: trace a module, set its mode, seed or draw random numbers.

    Afterwards the global random streams are where they were.

    Args:
        devices: the accelerators whose streams are used; all by default.
    """
    with _LOCK, torch.random.fork_rng(devices):
        yield


class Turns:
    """Threads that want the same of the process go in together; others wait until those are out.

    A thread that wants something else for a while, inside what it has, gives up its place and takes it again
    afterwards: none waits for another that waits for it.

    Args:
        switch: from what is wanted to a context in which the process has it.
    """

    def __init__(self, switch: Callable[[str], AbstractContextManager[None]]) -> None:
        self._switch = switch
        self._changed = threading.Condition()
        self._own = threading.local()
        self._inside, self._present, self._context = 0, "", ExitStack()

    @contextmanager
    def take(self, wanted: str) -> Iterator[None]:
        """Let the process have what is wanted inside the context."""
        outer = self._has
        self._go(wanted)
        try:
            yield
        finally:
            self._go(outer)

    @property
    def _has(self) -> str | None:
        return getattr(self._own, "has", None)

    def _go(self, wanted: str | None) -> None:
        if self._has == wanted:
            return
        with self._changed:
            if self._has is not None:
                self._own.has = None
                self._inside -= 1
                if self._inside == 0:
                    self._context.close()
                    self._changed.notify_all()
            if wanted is not None:
                self._changed.wait_for(lambda: self._inside == 0 or self._present == wanted)
                if self._inside == 0:
                    self._context.enter_context(self._switch(wanted))
                    self._present = wanted
                self._inside += 1
                self._own.has = wanted
