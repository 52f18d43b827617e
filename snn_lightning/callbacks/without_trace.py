"""Running a LightningModule's own code without leaving anything behind."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torchmetrics import Metric

from snn_lightning.graph.threads import alone

_INTERNAL = frozenset(vars(nn.Module()))
"""Attributes that every module has of torch."""


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
