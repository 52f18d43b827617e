"""Classifiers without weights, on the meta device, and a count of activation calls without torch.fx."""

import warnings
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

SIZE = 224
"""Height and width of inputs that every classifier takes, in pixels."""


class _EmptyOnMeta(TorchFunctionMode):
    """Puts what `torch.empty` makes, and that is every parameter, on the meta device.

    Some constructors compute with small tensors, so that not everything can be there.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def classifier(name: str) -> nn.Module:
    """Return a classifier of torchvision as its own program builds it, without weights, in eval mode."""
    with _EmptyOnMeta(), warnings.catch_warnings(action="ignore", category=FutureWarning):
        ann = torchvision.models.get_model(name, weights=None)
    return ann.to("meta").eval()


def sample() -> Tensor:
    """Return inputs `[2, 3, SIZE, SIZE]` without numbers."""
    return torch.empty(2, 3, SIZE, SIZE, device="meta")


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
