"""How errors of single layers add up at the output: PC Theorem 4.1 on networks small enough for Hessians."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from snn_lightning.errors import SettingsError

Layer = Callable[[Tensor], Tensor]
"""One layer of a chain, `[d] -> [d']`: x^(l) = layer(x^(l-1))."""


def hessians(layers: Sequence[Layer], x: Tensor) -> list[Tensor]:
    """Return the Hessian of the squared output error with respect to each layer's activation.

    `H^(l) = d²L / (dx^(l))²` of `L(a) = ||x^(n) - a||²` at the ANN's own activations (PC eq. 12), and so
    H^(n) = 2 I.

    Args:
        layers: the ANN, a chain of n layers.
        x: its input `[d]`.

    Returns:
        H^(1)...H^(n), `[d_l, d_l]` each.

    Example:
        >>> layers = [torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)]
        >>> _ = [torch.nn.init.constant_(layer.weight, 3.0) for layer in layers]
        >>> [h.item() for h in hessians(layers, torch.ones(1))]
        [18.0, 2.0]
    """
    activations = _activations(layers, x)
    output = activations[-1]

    def loss(start: int) -> Callable[[Tensor], Tensor]:
        return lambda a: (output - _run(layers[start:], a)).square().sum()

    return [
        torch.func.hessian(loss(number))(activation).detach()
        for number, activation in enumerate(activations, 1)
    ]


def output_error(layers: Sequence[Layer], x: Tensor, local_errors: Sequence[Tensor]) -> Tensor:
    """Return the error at the output that the layers' own errors lead to, to first order.

    `e^(l) = J^(l) e^(l-1) + e_c^(l)` (PC eq. 37) with the Jacobian `J = B W` of the layer at the ANN's
    activation (PC Lemma A.1).

    Args:
        layers: the ANN, a chain of n layers.
        x: its input `[d]`.
        local_errors: e_c^(1)...e_c^(n), `[d_l]` each, activation units.

    Returns:
        e^(n), `[d_n]`, activation units.

    Raises:
        SettingsError: there is not one error a layer.

    Example:
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(layer.weight, 3.0)
        >>> output_error([layer, layer], torch.ones(1), [torch.ones(1), torch.ones(1)])
        tensor([4.])
    """
    _check(layers, local_errors)
    error = torch.zeros_like(x)
    for layer, before, local in zip(layers, [x, *_activations(layers, x)], local_errors, strict=False):
        error = torch.func.jvp(layer, (before,), (error,))[1].detach() + local
    return error


def error_bound(hessians: Sequence[Tensor], local_errors: Sequence[Tensor]) -> float:
    """Return the upper bound of `e^(n)' H^(n) e^(n)`, twice the squared output error (PC eq. 15).

    `sum over l of 2^(n - l + 1) e_c^(l)' H^(l) e_c^(l)`. It holds for the error to first order, see
    `output_error`. Where errors carry a neuron over the kink of its ReLU, PC Lemma A.1 is not exact, and the
    true error can be larger: what is silent in the ANN has derivative 0, and may fire in the SNN.

    Args:
        hessians: H^(1)...H^(n), see `hessians`.
        local_errors: e_c^(1)...e_c^(n), `[d_l]` each, activation units.

    Raises:
        SettingsError: there is not one error a layer.

    Example:
        >>> error_bound([torch.eye(1) * 18, torch.eye(1) * 2], [torch.ones(1), torch.ones(1)])
        76.0
    """
    _check(hessians, local_errors)
    weights = depth_weights(len(hessians))
    terms = zip(weights, hessians, local_errors, strict=True)
    return sum(weight * (e @ h @ e).item() for weight, h, e in terms)


def depth_weights(layers: int) -> list[float]:
    """Return `2^(n - l + 1)`, l = 1...n: the weights of the layers' errors (PC eq. 15 and 16).

    Example:
        >>> depth_weights(3)
        [8.0, 4.0, 2.0]
    """
    return [2.0 ** (layers - number) for number in range(layers)]


def _check(layers: Sequence[object], local_errors: Sequence[Tensor]) -> None:
    if len(layers) != len(local_errors):
        raise SettingsError(f"local_errors must be one a layer: {len(layers)}, got {len(local_errors)}")


def _activations(layers: Sequence[Layer], x: Tensor) -> list[Tensor]:
    return [_run(layers[:end], x).detach() for end in range(1, len(layers) + 1)]


def _run(layers: Sequence[Layer], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x
