"""Return of freed memory from the C library to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def trim_heap() -> None:
    """Return freed heap memory to the system (glibc's `malloc_trim`); elsewhere do nothing.

    A walk allocates large tensors and keeps small ones. Each small one may lie where a large one was, so that
    the next large one needs new memory: at T=1024 that comes to tens of GB.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
