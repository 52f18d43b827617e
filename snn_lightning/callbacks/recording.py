"""Recording of a network's inputs while the user's own code runs."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torchmetrics import Metric

from snn_lightning.errors import CalibrationError
from snn_lightning.graph.threads import alone

_INTERNAL = frozenset(vars(nn.Module()))
"""Attributes that every module has of torch."""


@dataclass
class Call:
    """One call of a network.

    Args:
        inputs: what it received, `[N, ...]`, on the CPU, in the type of the network's parameters.
        output: the tensors that it gave, on the CPU.
    """

    inputs: Tensor
    output: list[Tensor]


@contextmanager
def recorded(network: nn.Module, calls: list[Call]) -> Iterator[None]:
    """Append every call of `network`, or of its `forward`, to `calls`.

    Raises:
        CalibrationError: inside the context, where it is called with something else than one tensor.
    """
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    forward = network.forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        x = _only_tensor(args, kwargs).detach()
        # A copy: the network, or the module's code after it, may work in place.
        inputs = x.to("cpu", dtype if x.is_floating_point() else None, copy=True)
        output = forward(*args, **kwargs)
        calls.append(Call(inputs, [part.detach().to("cpu", copy=True) for part in tensors_of(output)]))
        return output

    with instead_of_forward(network, recording):
        yield


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


def _only_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return args[0]
    given = [type(part).__name__ for part in args]
    given += [f"{name}={type(part).__name__}" for name, part in kwargs.items()]
    raise CalibrationError(
        f"The network is called with ({', '.join(given)}), and a spiking network takes one tensor by "
        "position: wrap it in a module that does, or name the part of it that does with network='...'."
    )


def tensors_of(output: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    if isinstance(output, Tensor):
        return [output]
    parts = (
        output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else ()
    )
    return [tensor for part in parts for tensor in tensors_of(part)]


@contextmanager
def without_trace(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Run a module's own code as in a validation, logging nothing and leaving no state behind.

    Inside, the module is in eval mode, logging goes nowhere, and buffers, metrics' states, lists, dicts and
    tensors of all its submodules are copies; afterwards they, parameters and random streams are as before.
    """
    loggers, stage = trainer.loggers, trainer.state.stage
    modes = {part: part.training for part in module.modules()}
    kept = [(part, dict(vars(part)), dict(part._buffers), dict(part._modules)) for part in module.modules()]
    parameters = [(parameter, parameter.detach().clone()) for parameter in module.parameters()]
    try:
        module.eval()
        trainer.loggers, trainer.state.stage = [DummyLogger() for _ in loggers], RunningStage.VALIDATING
        for part, attributes, buffers, _ in kept:
            for name, value in attributes.items():
                if name not in _INTERNAL:
                    vars(part)[name] = _copied(value)
            part._buffers.update({name: _copied(value) for name, value in buffers.items()})
            if isinstance(part, LightningModule):
                vars(part).update(log=_nothing, log_dict=_nothing)
        with alone(), isolate_rng(), torch.no_grad(), trainer.precision_plugin.forward_context():
            yield
    finally:
        for part, attributes, buffers, modules in kept:
            for name in set(vars(part)) - set(attributes):
                del vars(part)[name]
            vars(part).update(attributes)
            part._buffers.update(buffers)
            for name in set(part._modules) - set(modules):
                del part._modules[name]
        with torch.no_grad():
            for parameter, before in parameters:
                if not torch.equal(parameter, before):
                    parameter.copy_(before)
        for part, mode in modes.items():
            part.training = mode
        trainer.loggers, trainer.state.stage = loggers, stage


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Log nothing."""


def own_copy(batch: Any) -> Any:
    """Return a batch that code may change, or the batch itself where it can't be copied."""
    try:
        return copy.deepcopy(batch)
    except Exception:  # whatever a batch of the user's own raises
        return batch


def _copied(value: Any, inside: bool = False) -> Any:
    """Copy containers, tensors, and metrics inside containers; other objects stay the same."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return value.clone()
    if inside and isinstance(value, Metric):
        # Those that are submodules are copied by their own attributes.
        return copy.deepcopy(value)
    if isinstance(value, dict):
        parts = {key: _copied(part, inside=True) for key, part in value.items()}
        if type(value) is dict:
            return parts
        result = copy.copy(value)
        with suppress(Exception):  # a class of dicts that can't be changed needs no copy
            result.update(parts)
        return result
    if type(value) in (list, set, tuple, deque):
        return type(value)(_copied(part, inside=True) for part in value)
    return value
