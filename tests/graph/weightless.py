"""Networks without weights, on the meta device, and a count of activation calls without torch.fx."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class _EmptyOnMeta(TorchFunctionMode):
    """Puts what `torch.empty` makes, and that is every parameter, on the meta device.

    Some constructors compute with small tensors, so that not everything can be there.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """Return what `build` builds, without weights, in eval mode."""
    try:
        with _EmptyOnMeta():
            ann = build()
    except RuntimeError:
        # It runs a part of the network, or joins weights to what is not there.
        ann = build()
    return ann.to("meta").eval()


class _Counter(TorchDispatchMode):
    """Counts the calls below autograd that are activations of a neuron's form."""

    forms = ("relu", "hardtanh", "clamp", "clamp_min", "threshold")

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func._schema.name.removeprefix("aten::").rstrip("_") in self.forms
        return func(*args, **(kwargs or {}))


def activation_calls(ann: nn.Module, x: Tensor) -> int:
    """Return how many activations one forward of the ANN itself calls, as ATen sees it."""
    with torch.no_grad(), _Counter() as counter:
        ann(x)
    return counter.calls
