"""Run a LightningModule's own code on the calibration batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from snn_lightning.errors import CalibrationError

STEPS = ("predict_step", "validation_step", "test_step")

Code = Callable[[Any, int], object]
"""What runs on a batch, given its number too."""


def batches_on_device(trainer: Trainer, loader: Iterable[Any], seed: int) -> Iterator[Any]:
    """Yield the batches of a loader as the Trainer would hand them to a step.

    Args:
        trainer: its strategy says where they go, and its precision in which type.
        loader: of batches.
        seed: for a loader that shuffles, so that every run and every process gets the same order.

    Raises:
        CalibrationError: it gives nothing.
    """
    if isinstance(loader, Tensor):
        raise CalibrationError("The calibration loader is a tensor: pass a loader of batches, or [tensor].")
    torch.manual_seed(seed)
    batch = None
    for batch in loader:
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
    if batch is None:
        raise CalibrationError("The calibration set is empty: give a loader with at least one image.")


def candidates(module: LightningModule, batch: Any) -> Iterator[tuple[str, Code]]:
    """Yield the module's own ways to treat a batch, the likeliest first, with their names.

    `forward` where it takes the batch, then the steps, which know how a batch is made up. That the first
    part of a tuple is the input is only supposed where the module has no step that says so.
    """
    yield "forward", lambda batch, index: module(batch)
    for name in STEPS:
        if is_overridden(name, module):
            yield name, _step(getattr(module, name))
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Tensor):
        yield "forward of the batch's first part", lambda batch, index: module(batch[0])


def _step(step: Callable[..., object]) -> Code:
    """Return a step that is called with as many of (batch, batch_idx, dataloader_idx) as it takes."""
    kinds = [p.kind for p in inspect.signature(step).parameters.values()]
    named = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
    count = 3 if inspect.Parameter.VAR_POSITIONAL in kinds else named
    return lambda batch, index: step(*(batch, index, 0)[:count])


def choose(module: LightningModule, batch: Any, reaches: Callable[[Code], bool], name: str) -> Code:
    """Return the first of `candidates` that reaches the network.

    Args:
        module: the user's.
        batch: the first calibration batch.
        reaches: runs a candidate on the batch, and says whether the network was called.
        name: of the network, for the message.

    Raises:
        CalibrationError: none does; says what became of each.
    """
    tried = []
    for title, code in candidates(module, batch):
        try:
            if reaches(code):
                return code
            tried.append(f"{title} doesn't call it")
        except Exception as error:
            # A candidate that the batch is not meant for may fail in any way.
            reason = str(error).splitlines()[0] if str(error) else ""
            tried.append(f"{title} fails with {type(error).__name__}: {reason}")
    lines = "\n".join(f"  {line}" for line in tried)
    raise CalibrationError(
        f"What {name} receives can't be found out: no code of {type(module).__name__} calls it on a "
        f"calibration batch ({type(batch).__name__}).\n{lines}\nGive a calibration_dataloader whose batches "
        "are like those of validation, or say what the network receives: CalibrationCallback(..., "
        "inputs=function of a batch)."
    )
