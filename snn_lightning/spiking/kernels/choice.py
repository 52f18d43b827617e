"""Which kernel runs: the fastest for tensors of a device and type, or the one that was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType

from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.spiking.kernels import cpu, reference

KERNELS = ("auto", "reference")

_chosen: ContextVar[str] = ContextVar("kernel", default="")


def chosen_kernel() -> str:
    """Return what `use_kernel` or else the environment variable SNN_LIGHTNING_KERNEL names; "auto" if unset.

    Raises:
        SettingsError: it is no kernel.

    Example:
        >>> with use_kernel("reference"):
        ...     chosen_kernel()
        'reference'
    """
    name = _chosen.get() or os.environ.get("SNN_LIGHTNING_KERNEL") or "auto"
    if name not in KERNELS:
        raise SettingsError(
            f"kernel (SNN_LIGHTNING_KERNEL) must be one of {', '.join(KERNELS)}, got {name!r}"
        )
    return name


@contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Run neurons with the kernel `name` inside the context.

    Args:
        name: "auto" takes the fastest that this device, type and machine have, "reference" plain PyTorch.

    Example:
        >>> import torch
        >>> from snn_lightning import convert
        >>> snn = convert(torch.nn.ReLU(), torch.rand(8, 2), timesteps=4)
        >>> with use_kernel("reference"):
        ...     slowly = snn(torch.ones(1, 2))
        >>> torch.equal(snn(torch.ones(1, 2)), slowly)
        True
    """
    token = _chosen.set(name)
    try:
        chosen_kernel()
        yield
    finally:
        _chosen.reset(token)


def fastest(*tensors: Tensor) -> ModuleType:
    """Return the module of the kernels that work on `tensors`: `cpu`, `gpu` or `reference`."""
    if chosen_kernel() == "auto":
        if cpu.usable(*tensors):
            return cpu
        if tensors[0].is_cuda and (gpu := _gpu()) is not None and gpu.usable(*tensors):
            return gpu
    return reference


@cache
def _gpu() -> ModuleType | None:
    # Imported only where there is a GPU: Triton takes a second to load.
    try:
        from snn_lightning.spiking.kernels import gpu
    except ImportError:
        return None
    return gpu
