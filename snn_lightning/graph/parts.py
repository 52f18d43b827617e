"""A part of a model: where it is, and what it receives while the model runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from snn_lightning.errors import CalibrationError, SettingsError, SNNLightningError, unknown
from snn_lightning.graph.capture.trace import copied, unwrap
from snn_lightning.graph.threads import alone

Run = Callable[[nn.Module, Any], object]
"""Runs a model on a batch."""


class Reached(BaseException):
    """Ends the user's code at a part of the model; no Exception, so that it is not caught there."""


def paths_of(network: object, call: object) -> tuple[str, ...]:
    """Return the qualified names in the setting `network`; none if it is None.

    Args:
        network: a name, or several.
        call: the setting that goes with it, which is checked too.

    Raises:
        SettingsError: one of them is of another form, or `call` is alone.
    """
    if call is not None and not callable(call):
        raise SettingsError(f"call must be a function of the model and a batch, got {call!r}")
    if network is None:
        if call is not None:
            raise SettingsError("call says how the model around a part is run: it needs network='<part>' too")
        return ()
    paths = tuple(network) if isinstance(network, list | tuple) else (network,)
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise SettingsError(
            "network must be the qualified name of a part of the model, or a tuple of such names, got "
            f"{network!r}; leave it out to convert the whole model"
        )
    return cast(tuple[str, ...], paths)


def find_part(model: nn.Module, path: str) -> nn.Module:
    """Return the part of `model` with a qualified name.

    Raises:
        SettingsError: there is none; names what it may have been.
    """
    parts = dict(model.named_modules(remove_duplicate=False))
    if path not in parts:
        names = (name for name in parts if name)
        raise SettingsError(unknown(f"network (a part of {type(model).__name__})", path, names))
    return parts[path]


def first_received(model: nn.Module, batch: Any, path: str, call: Run | None) -> tuple[nn.Module, Tensor]:
    """Return the part at `path`, and what it receives in its first call, `[N, ...]`.

    The model runs no further than that, on its own device, which may be "meta".

    Raises:
        SettingsError: there is no such part.
        CalibrationError: the model doesn't call it, or with something else than one tensor.
    """
    model = copied(unwrap(model)).eval()
    part, received = find_part(model, path), list[Tensor]()

    def stop(*args: Any, **kwargs: Any) -> None:
        received.append(only_tensor(args, kwargs))
        raise Reached

    with alone(), torch.no_grad(), instead_of_forward(part, stop), suppress(Reached):
        run_model(model, own_copy(batch), call)
    if not received:
        raise never_called(model, [path])
    return part, received[0]


def run_model(model: nn.Module, batch: Any, call: Run | None = None) -> object:
    """Run `model` on a batch, on the model's device.

    Args:
        model: it.
        batch: inputs `[N, ...]`, a list of images `[C, H, W]`, (either of them, anything), or whatever `call`
            takes.
        call: how it is run.

    Raises:
        CalibrationError: it fails, or can't be run on such a batch without `call`.
    """
    batch = to_device(batch, device_of(model))
    if call is not None:
        return call(model, batch)
    failed: Exception | None = None
    for inputs in _inputs(batch):
        try:
            return model(inputs)
        except Exception as error:  # whatever the user's own code raises
            failed = failed or error
    if isinstance(failed, SNNLightningError):
        raise failed
    reason = "" if failed is None else f" ({type(failed).__name__}: {failed})"
    raise CalibrationError(
        f"{type(model).__name__} can't be run on a batch, a {type(batch).__name__}{reason}. Batches are "
        "tensors, lists of images, or tuples that start with one of them; for all others say how it is run: "
        "call=lambda model, batch: model(batch['image'])."
    ) from failed


def _inputs(batch: Any) -> Iterator[Tensor | list[Tensor]]:
    """Yield what may be a model's input in a batch, the likeliest first.

    A list of images, and what a DataLoader makes of (inputs, anything), look the same.
    """
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, list | tuple) and batch:
        if isinstance(batch, list) and _are_tensors(batch) and all(image.dim() == 3 for image in batch):
            yield batch
        if isinstance(batch[0], Tensor):
            yield batch[0]
        elif _are_tensors(batch[0]):
            yield list(batch[0])


def _are_tensors(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, Tensor) for part in value)


def never_called(model: nn.Module, paths: Sequence[str]) -> CalibrationError:
    """Return the error for parts that a model has and doesn't run."""
    names = " and ".join(f"'{path}'" for path in paths)
    return CalibrationError(
        f"{type(model).__name__} never calls {names} on these batches: name a part that it calls as a whole, "
        "not one whose parts it calls, or say how it is run: call=lambda model, batch: ..."
    )


@contextmanager
def instead_of_forward(network: nn.Module, function: Any) -> Iterator[None]:
    """Let a call of `network` be a call of `function`.

    Not by a hook, which would miss calls of `network.forward`.
    """
    # Past `__setattr__`, which compiled modules pass on to the module that they wrap.
    before = vars(network).get("forward")
    vars(network)["forward"] = function
    try:
        yield
    finally:
        if before is None:
            del vars(network)["forward"]
        else:
            vars(network)["forward"] = before


def only_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the one tensor that a network is called with.

    Raises:
        CalibrationError: it is called with anything else.
    """
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return args[0].detach()
    given = [type(part).__name__ for part in args]
    given += [f"{name}={type(part).__name__}" for name, part in kwargs.items()]
    raise CalibrationError(
        f"The network is called with ({', '.join(given)}), and a spiking network takes one tensor by "
        "position: wrap it in a module that does, or name the part of it that does with network='...'."
    )


def device_of(model: nn.Module) -> torch.device | None:
    """Return the device of a model's first parameter or buffer; None if it has none."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), None)


def to_device(batch: Any, device: torch.device | None) -> Any:
    """Move the tensors in nested tuples, lists and dicts; None leaves them where they are."""
    return batch if device is None else tree_map_only(Tensor, lambda x: x.to(device), batch)


def own_copy(batch: Any) -> Any:
    """Return a batch that code may change, or the batch itself where it can't be copied."""
    try:
        return copy.deepcopy(batch)
    except Exception:  # whatever a batch of the user's own raises
        return batch
