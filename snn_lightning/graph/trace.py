"""Trace the user's module with torch.fx, and say where things stand in the user's source."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from snn_lightning.errors import ConversionError

_NOT_THE_USERS = (str(Path(torch.__file__).parent), __file__)


class _Tracer(fx.Tracer):
    """A tracer that remembers the module it is in and records source lines."""

    record_stack_traces = True

    def __init__(self) -> None:
        super().__init__()
        self.path = ""

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        before, self.path = self.path, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.path = before
        return result


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's module inside wrappers of torch.compile and DistributedDataParallel."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a copy of `model` in eval mode.

    Args:
        model: the user's network; it is left as it is.

    Returns:
        The traced graph.

    Raises:
        ConversionError: the model is scripted or its Python code can't be traced; names the module and source line.
    """
    model = unwrap(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise ConversionError(
            "The model is a scripted module, whose Python code is gone. Pass the nn.Module it was scripted from."
        )
    network = copy.deepcopy(model).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    tracer = _Tracer()
    try:
        graph = tracer.trace(network)
    except Exception as error:
        raise ConversionError(
            f"The forward code of {describe_path(tracer.path)} can't be traced at {_last_user_line(error)}: {error}. "
            "Control flow that depends on tensor values has no spiking counterpart: rewrite it with fixed structure, "
            "or convert the submodule that is free of it."
        ) from error
    return fx.GraphModule(network, graph)


def describe_path(path: str) -> str:
    """Return a module path for messages."""
    return f"module '{path}'" if path else "the top module"


def module_path(node: fx.Node) -> str:
    """Return the qualified name of the module whose code makes this call."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def source_line(node: fx.Node) -> str:
    """Return `file:line: code` of the user's call, or "" where fx has not recorded it."""
    frames = [line.strip() for line in (node.stack_trace or "").splitlines()]
    for index in range(len(frames) - 1, -1, -1):
        if frames[index].startswith("File ") and not any(path in frames[index] for path in _NOT_THE_USERS):
            file, _, rest = frames[index][len('File "') :].partition('", line ')
            code = frames[index + 1] if index + 1 < len(frames) else ""
            return f"{file}:{rest.split(',')[0]}: {code}"
    return ""


def _last_user_line(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_NOT_THE_USERS)]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else "an unknown line"
