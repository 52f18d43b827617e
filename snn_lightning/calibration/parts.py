"""Parts of a model become spiking in a copy of it, each by what it receives while the model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import combinations
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from snn_lightning.calibration.images import batches_of
from snn_lightning.calibration.recording import Code, Part, Recorder
from snn_lightning.errors import CalibrationError, ConversionError, SettingsError
from snn_lightning.graph.capture.trace import copied, unwrap
from snn_lightning.graph.parts import Run, find_part, instead_of_forward, never_called, own_copy, run_model
from snn_lightning.spiking.model import SpikingModel


class Convert(Protocol):
    """Makes an SNN of a part."""

    def __call__(self, part: nn.Module, batches: list[Tensor], device: torch.device, /) -> SpikingModel:
        """Return the SNN of `part` on a device, by batches of what it receives, `[N, ...]` on the CPU."""
        ...


@torch.inference_mode(False)
def convert_parts(
    model: nn.Module,
    loader: Iterable[Any],
    paths: Sequence[str],
    call: Run | None,
    convert: Convert,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Return a copy of `model` in eval mode, with SNNs in the place of some parts.

    Args:
        model: left as it is.
        loader: batches of the model.
        paths: qualified names of the parts. They are converted in the order in which data meets them, a later
            one by what it receives from the SNNs before it.
        call: how the model is run on a batch; see `run_model`.
        convert: makes an SNN of a part.
        seed: for a loader that shuffles.
        device: where the model runs, its own by default.

    Raises:
        SettingsError: there is no such part, or one is inside another.
        CalibrationError: a part is not called, or with something else than one tensor.
        ConversionError: a part can't be converted.
    """
    model = unwrap(model)
    _check_parts(model, paths)
    # Whatever a run leaves behind, it leaves in the first.
    running, result = (copied(model).eval().to(device) for _ in range(2))
    parts = [Part(running, path, find_part(running, path)) for path in paths]

    def code(batch: Any, index: int) -> object:
        return run_model(running, batch, call)

    if len(parts) > 1:
        loader = list(loader) if isinstance(loader, Iterator) else loader
        parts = _in_order(parts, code, batches_of(loader, seed))
    for part in parts:
        recorder = Recorder(part, code)
        with _about(part):
            snn = convert(part.ann, recorder.record(batches_of(loader, seed)), recorder.device)
            part.replace(snn)
            recorder.check(snn)
        Part(result, part.path, find_part(result, part.path)).replace(snn)
    return result


def _check_parts(model: nn.Module, paths: Sequence[str]) -> None:
    parts = {path: find_part(model, path) for path in paths}
    for path, part in parts.items():
        if isinstance(part, SpikingModel):
            raise SettingsError(f"'{path}' of {type(model).__name__} holds a spiking network already")
    for outer, inner in combinations(sorted(paths, key=len), 2):
        # The same module may have two names.
        if parts[inner] in parts[outer].modules() or parts[outer] in parts[inner].modules():
            raise SettingsError(
                f"network names '{outer}' and '{inner}', and one of them is, or is inside, the other: name "
                "each part once, and only the larger one"
            )


def _in_order(parts: Sequence[Part], code: Code, batches: Iterable[Any]) -> list[Part]:
    """Return the parts in the order of their first calls."""
    met: list[Part] = []
    with Recorder(parts[0]).context(), ExitStack() as noting:
        for part in parts:
            noting.enter_context(_noting(part, met))
        for index, batch in enumerate(batches):
            code(own_copy(batch), index)
            if len(met) == len(parts):
                return met
    raise never_called(parts[0].module, [part.path for part in parts if part not in met])


def _noting(part: Part, met: list[Part]) -> AbstractContextManager[None]:
    forward = part.ann.forward

    def note(*args: Any, **kwargs: Any) -> Any:
        if part not in met:
            met.append(part)
        return forward(*args, **kwargs)

    return instead_of_forward(part.ann, note)


@contextmanager
def _about(part: Part) -> Iterator[None]:
    """Say in messages which part they are about."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"In '{part.path}': {error}", error.obstacles) from error
    except CalibrationError as error:
        raise CalibrationError(f"In '{part.path}': {error}") from error
