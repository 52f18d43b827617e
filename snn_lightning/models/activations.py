"""Activations with an upper bound, for ANNs that are trained to be converted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import SettingsError
from snn_lightning.graph.capture.bounded import BoundedActivation
from snn_lightning.settings import check_interval, check_positive, check_whole
from snn_lightning.spiking.neurons.dynamics import expected_rate


class Clipped(BoundedActivation):
    """`min(max(x, 0), cap)` with a fixed bound (thresholded ReLU, Deng & Gu 2021, arXiv:2103.00476).

    Args:
        cap: the bound, activation units.

    Example:
        >>> Clipped(cap=2.0)(torch.tensor([-1.0, 1.5, 3.0])).tolist()
        [0.0, 1.5, 2.0]
    """

    def __init__(self, cap: float = 1.0) -> None:
        super().__init__()
        check_positive("model.activation.cap", cap)
        self.register_buffer("cap", torch.tensor(float(cap)))

    def activate(self, x: Tensor) -> Tensor:
        """Clip `x`, of any shape."""
        return x.clamp(min=0).minimum(self.cap.to(x.dtype))


class RateNorm(BoundedActivation):
    """`clip(x, 0, θ)` with `θ = p * m`: p is trained, m is the largest input (RNL).

    Ding et al. 2021, arXiv:2105.11654. In training m is the batch's maximum, whose running mean is kept for
    testing, as a batch norm does. The paper
    also divides by θ, which the weights behind it make good: here activations keep their scale.

    Args:
        fraction: p at the start, in (0, 1].
        momentum: of the running mean.

    Example:
        >>> activation = RateNorm(fraction=0.5)
        >>> activation(torch.tensor([-1.0, 1.0, 4.0])).tolist()  # in training, with θ = 0.5 * 4
        [0.0, 1.0, 2.0]
    """

    running_max: Tensor
    seen: Tensor

    def __init__(self, fraction: float = 1.0, momentum: float = 0.1) -> None:
        super().__init__()
        for name, value in (("fraction", fraction), ("momentum", momentum)):
            check_interval(f"model.activation.{name}", value, "(0, 1]")
        self.momentum = momentum
        self.fraction = nn.Parameter(torch.tensor(float(fraction)))
        self.register_buffer("running_max", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @property
    def cap(self) -> Tensor:  # type: ignore[override]
        """θ, with the running mean of the maximum."""
        return self.fraction * self.running_max

    def activate(self, x: Tensor) -> Tensor:
        """Clip `x`, of any shape."""
        if not self.training:
            return x.clamp(min=0).minimum(self.cap.to(x.dtype))
        largest = x.detach().amax().clamp(min=torch.finfo(torch.float32).tiny).to(self.running_max.dtype)
        with torch.no_grad():
            self.running_max.lerp_(largest, self.momentum if self.seen else 1.0)
            self.seen.add_(1)
        return x.clamp(min=0).minimum((self.fraction * largest).to(x.dtype))


class QuantizedClip(BoundedActivation):
    """`λ / L * clip(floor(L x / λ + 1/2), 0, L)`: quantisation, clip, floor, shift (QCFS).

    Bu et al. 2022, arXiv:2303.04347. It is the expected rate of a neuron with threshold λ and initial
    potential λ / 2 after T = L time steps. The floor has gradient 1; conversion leaves the quantiser behind
    and keeps `min(max(x, 0), λ)`.

    Args:
        levels: L.
        cap: the bound λ at the start, activation units; trained.

    Example:
        >>> QuantizedClip(levels=4, cap=8.0)(torch.tensor([-1.0, 2.5, 9.0])).tolist()
        [0.0, 2.0, 8.0]
    """

    def __init__(self, levels: int = 4, cap: float = 8.0) -> None:
        super().__init__()
        check_whole("model.activation.levels", levels)
        check_positive("model.activation.cap", cap)
        self.levels = levels
        self.cap = nn.Parameter(torch.tensor(float(cap)))

    def activate(self, x: Tensor) -> Tensor:
        """Quantise `x`, of any shape."""
        return expected_rate(x, self.levels, self.cap, self.cap / 2).to(x.dtype)


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "clipped": Clipped,
    "rate_norm": RateNorm,
    "qcfs": QuantizedClip,
}
"""By the name that `model.activation` takes; "relu" leaves the network as it is."""


def replace_activations(net: nn.Module, activation: str | Mapping[str, Any]) -> nn.Module:
    """Replace every `nn.ReLU` of a network, in place.

    Args:
        net: any network that calls its ReLUs as modules; one that is called twice becomes one activation that
            is called twice.
        activation: a key of `ACTIVATIONS` or "relu", or `{"name": key, ...}` with the activation's settings.

    Returns:
        The network.

    Raises:
        SettingsError: an unknown name or setting, or a network without ReLU modules.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> replace_activations(net, {"name": "clipped", "cap": 1.0})[1]
        Clipped()
    """
    settings = {"name": activation} if isinstance(activation, str) else dict(activation)
    name = settings.pop("name", None)
    if name == "relu" and not settings:
        return net
    if name not in ACTIVATIONS:
        raise SettingsError(
            f"unknown model.activation: {name!r}; there is: relu (without settings), "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
    known = inspect.signature(ACTIVATIONS[name]).parameters
    for field in settings:
        if field not in known:
            raise SettingsError(
                f"unknown setting of model.activation {name!r}: {field!r}; there is: {', '.join(known)}"
            )
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(net.modules()):
        # named_children() leaves out the second name of a shared module.
        for key, child in list(parent._modules.items()):
            if child is not None and type(child) is nn.ReLU:
                made.setdefault(child, ACTIVATIONS[name](**settings))
                setattr(parent, key, made[child])
    if not made:
        raise SettingsError(
            f"model.activation={name!r} replaces nn.ReLU modules, and {type(net).__name__} has none; choose "
            "a model with ReLU modules, or activation=relu"
        )
    return net
