"""The precision in which synapses compute, whatever the process has set for other work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from snn_lightning.graph.operators import traits_of
from snn_lightning.graph.pointwise import overruns, strided
from snn_lightning.graph.threads import Turns
from snn_lightning.settings import check_choice

PRECISIONS = ("float32", "tf32", "bf16")


class Switch(NamedTuple):
    """One of PyTorch's switches of float32 products, and its values for float32 itself and for TF32."""

    get: Callable[[], Any]
    set: Callable[[Any], object]
    float32: Any
    tf32: Any


def _attribute(owner: Any, name: str, float32: Any, tf32: Any) -> Switch:
    return Switch(partial(getattr, owner, name), partial(setattr, owner, name), float32, tf32)


def _switches() -> tuple[Switch, ...]:
    """Return the switches that this PyTorch has, those that others follow first."""
    b: Any = torch.backends
    if hasattr(b, "fp32_precision"):
        owners = (b, b.cudnn, b.mkldnn, b.cuda.matmul, b.cudnn.conv, b.mkldnn.matmul, b.mkldnn.conv)
        return tuple(_attribute(owner, "fp32_precision", "ieee", "tf32") for owner in owners)
    # Before PyTorch 2.9. The first is cuda.matmul.allow_tf32 too, which can't say "medium".
    matmul = Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest", "high")
    return matmul, _attribute(b.cudnn, "allow_tf32", False, True)


SWITCHES = _switches()


def check_precision(precision: object) -> str:
    """Return `precision` if it is one of `PRECISIONS`.

    Raises:
        SettingsError: it is anything else.
    """
    check_choice("precision", precision, PRECISIONS)
    return str(precision)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Multiply float32 tensors in TF32 inside the context if `precision` is "tf32", else in float32 itself.

    Both have to be said: by PyTorch's default convolutions on CUDA use TF32 and matrix products do not.
    Afterwards every switch is as it was. The switches are the process', not a thread's: a thread that wants
    others than are in use waits until nobody uses those.
    """
    with _TURNS.take("tf32" if precision == "tf32" else "float32"):
        yield


@contextmanager
def _switched(precision: str) -> Iterator[None]:
    before = []
    try:
        for switch in SWITCHES:
            wanted = switch.tf32 if precision == "tf32" else switch.float32
            # One that nobody has set follows those in front of it. To set it would cut it off from them for
            # good: convolutions can't be unset.
            if (old := switch.get()) != wanted:
                before.append((switch, old))
                switch.set(wanted)
        yield
    finally:
        for switch, old in reversed(before):
            switch.set(old)


_TURNS = Turns(_switched)


@contextmanager
def own_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Let neither the process' switches nor an autocast reach what runs inside the context.

    An autocast would take currents, and with them potentials and thresholds, along. A graph that is being
    traced can hold no switch: it runs with those that the process has then.
    """
    products = nullcontext() if torch.compiler.is_compiling() else float32_products(precision)
    with _without_autocast(device), products:
        yield


def in_autocast(device: torch.device) -> bool:
    """Whether an autocast reaches what runs on a device."""
    # The meta device, on which costs are counted, has none.
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def _without_autocast(device: torch.device) -> AbstractContextManager[None]:
    return torch.autocast(device.type, enabled=False) if in_autocast(device) else nullcontext()


def compute(operator: nn.Module, inputs: Sequence[Tensor], precision: str) -> Tensor:
    """Run an operator; a synapse in `precision`, all others in the type of their inputs.

    "bf16" rounds inputs and weights to bfloat16, and the sums of their products too. What comes back is in
    the type of the weights, and the bias is added in it.

    Args:
        operator: of `graph.operators`.
        inputs: `[B, ...]` each.
        precision: one of `PRECISIONS`.
    """
    if not traits_of(operator).weighted:
        with _without_autocast(inputs[0].device) if inputs else nullcontext():
            return cast(Tensor, operator(*inputs))
    (x,) = inputs
    with own_precision(precision, x.device):
        if precision == "bf16":
            return _in_bfloat16(operator, x)
        if overruns(operator) and operator.padding == (0, 0):
            pixels = strided(x, operator.stride)
            return F.conv2d(pixels, operator.weight, operator.bias, groups=operator.groups)
        return cast(Tensor, operator(x))


def _in_bfloat16(synapse: nn.Module, x: Tensor) -> Tensor:
    weight, bias = cast(Tensor, synapse.weight), cast("Tensor | None", synapse.bias)
    rounded: dict[str, Any] = {"weight": weight.to(torch.bfloat16), "bias": None}
    y = cast(Tensor, functional_call(synapse, rounded, x.to(torch.bfloat16))).to(weight.dtype)
    if bias is None:
        return y
    return y.add_(bias if isinstance(synapse, nn.Linear) else bias.view(-1, *[1] * (y.dim() - 2)))
