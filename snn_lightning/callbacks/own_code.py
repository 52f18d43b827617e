"""Run a LightningModule's own code on the calibration batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from snn_lightning.calibration.images import batches_of
from snn_lightning.calibration.recording import Code
from snn_lightning.errors import CalibrationError

STEPS = ("validation_step", "test_step", "predict_step")


def batches_on_device(trainer: Trainer, loader: Iterable[Any], seed: int) -> Iterator[Any]:
    """Yield the batches of a loader as the Trainer would hand them to a step.

    Args:
        trainer: its strategy says where they go, and its precision in which type.
        loader: of batches.
        seed: see `batches_of`.

    Raises:
        CalibrationError: it gives nothing.
    """
    for batch in batches_of(loader, seed):
        batch = trainer.precision_plugin.convert_input(batch)
        # As in the Trainer's loops, which call this hook themselves.
        batch = trainer.lightning_module._on_before_batch_transfer(batch)
        yield trainer.strategy.batch_to_device(batch)


def candidates(module: LightningModule, batch: Any, running: str | None) -> Iterator[tuple[str, Code]]:
    """Yield the module's own ways to treat a batch, the likeliest first, with their names.

    The steps know how a batch is made up and prepared, and that of the running function best; then `forward`
    where it takes the batch. That the first part of a tuple is the input is only supposed where the module
    has no step that says so.

    Args:
        module: the user's.
        batch: a calibration batch.
        running: the step that the Trainer is about to run.
    """
    steps = [name for name in dict.fromkeys((running, *STEPS)) if name and is_overridden(name, module)]
    for name in steps:
        yield name, _step(getattr(module, name))
    yield "forward", lambda batch, index: module(batch)
    if not steps and isinstance(batch, tuple | list) and batch and isinstance(batch[0], Tensor):
        yield "forward of the batch's first part", lambda batch, index: module(batch[0])


def _step(step: Callable[..., object]) -> Code:
    """Return a step that is called with as many of (batch, batch_idx, dataloader_idx) as it takes."""
    kinds = [p.kind for p in inspect.signature(step).parameters.values()]
    named = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
    count = 3 if inspect.Parameter.VAR_POSITIONAL in kinds else named
    return lambda batch, index: step(*(batch, index, 0)[:count])


def _takes_apart(batch: Any, received: Sequence[Tensor]) -> bool:
    """Whether code for (inputs, labels) has taken the first images of a tensor for its parts."""
    return isinstance(batch, Tensor) and any(
        x.dim() < 2 or len(x) % max(len(batch), 1) or x.shape == batch.shape[1:] for x in received
    )


def choose(
    module: LightningModule,
    batch: Any,
    running: str | None,
    reached: Callable[[Code], Sequence[Tensor]],
    name: str,
) -> Code:
    """Return the first of `candidates` that reaches the network.

    Args:
        module: the user's.
        batch: the first calibration batch.
        running: see `candidates`.
        reached: runs a candidate on the batch, and returns what the network received.
        name: of the network, for the message.

    Raises:
        CalibrationError: none does; says what became of each.
    """
    tried = []
    for title, code in candidates(module, batch, running):
        try:
            received = reached(code)
            if received and not _takes_apart(batch, received):
                return code
            tried.append(f"{title} {'takes images for parts of a batch' if received else 'does not call it'}")
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
