"""Muon: steps along the momentum's nearest orthogonal matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal before each step (K. Jordan, "Muon", 2024).

    `m <- beta m + (1 - beta) g; W <- W - lr * O / rms(O)`, with `O = orthogonal(beta m + (1 - beta) g)`: all
    directions of a weight matrix move equally far, those of small gradients too. A convolution's weights are
    the matrix `[out, in * k * k]`.

    PyTorch's own, since 2.9, takes matrices alone and computes in bfloat16, which a difference in the last
    bits of the gradients moves by percents: one process and two would no longer give the same SNN.

    Args:
        groups: of parameters, each with its `lr`: the root of the mean square of a step.
        momentum: beta.

    Example:
        >>> weight = torch.zeros(2, 2)
        >>> weight.grad = torch.tensor([[100.0, 0.0], [0.0, 1.0]])
        >>> Muon([{"params": [weight], "lr": 0.1}]).step()
        >>> bool((weight.diagonal() < -0.1).all())  # both directions, however unlike their gradients
        True
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float = 0.9) -> None:
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all parameters by their gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state, gradient = self.state[parameter], parameter.grad.flatten(1)
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
                direction = orthogonal(gradient.lerp(momentum, group["momentum"]))
                size = direction.square().mean().sqrt().clamp(min=torch.finfo(direction.dtype).tiny)
                parameter.sub_((direction * (group["lr"] / size)).view_as(parameter))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about the orthogonal matrix `U V^T` of `matrix = U S V^T`, by a few Newton-Schulz iterations.

    Its singular values lie between 0.5 and 1.5, but for those that were less than about 1/500 of the norm.

    Args:
        matrix: `[n, m]`.

    Example:
        >>> found = torch.linalg.svdvals(orthogonal(torch.diag(torch.tensor([8.0, 1.0, 0.1]))))
        >>> bool(((found > 0.5) & (found < 1.5)).all())
        True
    """
    x = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    tall = matrix.shape[0] > matrix.shape[1]
    x = x.mT if tall else x
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
