"""Trace the user's module with torch.fx, and say where things stand in the user's source."""

from __future__ import annotations

import copy
import inspect
import linecache
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import fx, nn

from snn_lightning.errors import ConversionError
from snn_lightning.graph.capture.bounded import BoundedActivation
from snn_lightning.graph.capture.choice import Choice
from snn_lightning.graph.capture.form import Form
from snn_lightning.graph.capture.registry import MODULE_RULES
from snn_lightning.graph.threads import alone

_NOT_THE_USERS = (f"{Path(torch.__file__).parent}{os.sep}", __file__)


class _Tracer(fx.Tracer):
    """A tracer that remembers the module it is in and records source lines.

    Sizes decide which way the control flow goes, as they do in the calls that are lowered.
    """

    def __init__(self, choice: Choice, form: Form) -> None:
        super().__init__()
        self.choice, self.form, self.path, self.thread = choice, form, "", threading.get_ident()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        if node.op == "call_module":
            node.meta["module"] = _as_it_is(self.root.get_submodule(str(node.target)))
        # Only the user's own line: fx's record_stack_traces formats the whole stack of every call, which
        # takes as long as the rest of the conversion.
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not _graph.__code__:
            if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
                node.meta["user_line"] = (frame.f_code.co_filename, frame.f_lineno)
                break
            frame = frame.f_back
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, BoundedActivation) or type(m) in MODULE_RULES
        return (
            self.choice.takes_module(m, module_qualified_name)
            or known
            or super().is_leaf_module(m, module_qualified_name)
        )

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Let the first parameter be the input, and leave the others to their defaults."""
        parameters = list(inspect.signature(inspect.unwrap(root_fn)).parameters.values())[1:]
        for other in parameters[1:]:
            named = other.kind not in (other.VAR_POSITIONAL, other.VAR_KEYWORD)
            if named and other.default is other.empty:
                raise ConversionError(
                    f"The network takes a second input '{other.name}'. Only networks with one input tensor "
                    "convert: wrap the model in a module with one input."
                )
        name = parameters[0].name if parameters else "x"
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {})]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._untraced:
            # While fx traces, the calls of all modules come here, those of other threads too.
            return forward(*args, **kwargs)
        before, self.path = self.path, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.path = before
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._untraced else super().getattr(attr, attr_val, parameter_proxy_cache)

    @property
    def _untraced(self) -> bool:
        return self.form.busy or threading.get_ident() != self.thread

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Return what sizes, types and devices decide; nothing that depends on numbers."""
        value = self.plain(obj)
        return super().to_bool(obj) if value is None or isinstance(value, torch.Tensor) else bool(value)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Go through a tuple or list, whose length is known."""
        value, parts = self.plain(obj), cast(Any, obj)
        return (parts[i] for i in range(len(value))) if isinstance(value, tuple | list) else super().iter(obj)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for the result of a call."""
        return _Proxy(node, self)

    def plain(self, obj: fx.Proxy) -> Any:
        """Return a value as far as it is known without numbers; None where it isn't."""
        try:
            return self.form.plain(obj.node)
        except Exception:  # whatever the user's code raises where there are no numbers
            return None


class _Proxy(fx.Proxy):
    """Stands for the result of a call, whose device is known."""

    tracer: _Tracer

    @property
    def device(self) -> Any:
        """The device, by which the user's code may choose an autocast."""
        value = self.tracer.plain(self)
        return value.device if isinstance(value, torch.Tensor) else fx.proxy.Attribute(self, "device")


def _as_it_is(module: nn.Module) -> nn.Module:
    """Return a module with the settings, parameters and buffers that `module` has now, none of them copied.

    A forward may set them anew between two calls of one module.
    """
    # Not copy.copy, which modules with parametrisations refuse.
    twin = object.__new__(type(module))
    settings = vars(module).items()
    vars(twin).update(
        {key: copy.copy(value) if isinstance(value, dict) else value for key, value in settings}
    )
    return twin


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's module inside wrappers of torch.compile and DistributedDataParallel."""
    while True:
        if isinstance(original := getattr(model, "_orig_mod", None), nn.Module):
            model = original
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = cast(nn.Module, model.module)
        else:
            return model


def trace(
    model: nn.Module, choice: Choice | None = None, sample: torch.Tensor | None = None
) -> fx.GraphModule:
    """Trace a copy of `model` in eval mode.

    Args:
        model: the user's network; it is left as it is.
        choice: what is left analog; takes note of what there is, and of modules that can't be traced.
        sample: inputs `[N, ...]`, whose size decides where the control flow depends on it.

    Returns:
        The traced graph; `meta["module"]` of each call of a module is the module as it was at that call.

    Raises:
        ConversionError: the model is scripted or its Python code can't be traced; names the module and source
            line.
    """
    model = unwrap(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ConversionError(
                f"{f'The module {name!r}' if name else 'The model'} is a scripted module, whose Python "
                "code is gone. Pass the nn.Module it was scripted from."
            )
    network = copied(model).eval()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            # Modules may be compiled one by one.
            parent._modules[name] = unwrap(child)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    choice = choice or Choice()
    choice.see(network)
    return fx.GraphModule(network, _graph(network, choice, sample))


def _graph(network: nn.Module, choice: Choice, sample: torch.Tensor | None) -> fx.Graph:
    tracer = _Tracer(choice, Form(network, sample))
    try:
        with alone(devices=[]):
            return tracer.trace(network)
    except ConversionError:
        raise
    except Exception as error:
        if choice.widen([tracer.path]):
            return _graph(network, choice, sample)
        setting = f' Or leave it analog: analog=("{tracer.path}",).' if tracer.path else ""
        raise ConversionError(
            f"The forward code of {describe_path(tracer.path)} can't be traced at {_last_user_line(error)}: "
            f"{error}. {_remedy(str(error))}{setting}"
        ) from error


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy, also of a module that keeps the result of a computation as an attribute.

    Raises:
        ConversionError: something in it can't be copied.
    """
    kept = (value for module in model.modules() for value in vars(module).values())
    memo = {id(v): v.detach().clone() for v in kept if isinstance(v, torch.Tensor) and not v.is_leaf}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever an attribute of the user's own raises
        raise ConversionError(
            f"{type(model).__name__} can't be copied ({type(error).__name__}: {error}): a conversion works "
            "on a copy. Keep locks, files, generators and the like out of the network's modules."
        ) from error


def _remedy(message: str) -> str:
    if "not installed as a submodule" in message:
        return (
            "Register every layer in __init__: lists of layers as nn.ModuleList, slices of an nn.Sequential "
            "and layers made in forward as attributes of their own."
        )
    if "attached to a `Trainer`" in message:
        return "Take self.trainer and self.log out of forward: only the steps have a Trainer."
    if "dynamo" in message:
        return (
            "Take torch.compile off the function it calls: compiled modules are unwrapped, functions can't."
        )
    if "tuple of Tensors" in message:
        return (
            "Before PyTorch 2.9 the parts that chunk, split or unbind return can't be joined as they come: "
            "unpack them, as in a, b = x.chunk(2, 1)."
        )
    return (
        "Control flow that depends on tensor values has no spiking counterpart: rewrite it with fixed "
        "structure, or convert the submodule that is free of it."
    )


def describe_path(path: str) -> str:
    """Return a module path for messages."""
    return f"module '{path}'" if path else "the top module"


def module_path(node: fx.Node) -> str:
    """Return the qualified name of the module whose code makes this call."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def surrounding(node: fx.Node) -> str:
    """Return the qualified name of the smallest module that could be left analog with this call in it."""
    path = module_path(node)
    return path.rpartition(".")[0] if node.op == "call_module" else path


def source_line(node: fx.Node) -> str:
    """Return `file:line: code` of the user's call, or "" where none has been recorded."""
    if "user_line" not in node.meta:
        return ""
    file, line = node.meta["user_line"]
    return f"{file}:{line}: {linecache.getline(file, line).strip()}"


def _last_user_line(error: BaseException) -> str:
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_NOT_THE_USERS)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else "an unknown line"
