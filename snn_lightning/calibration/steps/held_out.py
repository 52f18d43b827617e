"""How far a fit goes, by images that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of the way from what parameters were to what they were fitted to."""


@torch.no_grad()
def go_back(
    parameters: Sequence[Tensor],
    before: Sequence[Tensor],
    error: Callable[[], float],
    shares: Sequence[float] = SHARES,
) -> tuple[float, float]:
    """Move fitted parameters back towards what they were, to where `error` is least.

    Args:
        parameters: as they were fitted; changed in place.
        before: what they were.
        error: of the network as it is, on images that were not fitted to.
        shares: of the way that are tried, the whole way first.

    Returns:
        The share of the way that is left, and the error there.

    Example:
        >>> weight = torch.tensor([4.0])
        >>> go_back([weight], [torch.tensor([0.0])], lambda: abs(weight.item() - 2.5))
        (0.5, 0.5)
        >>> weight
        tensor([2.])
    """
    after = [p.clone() for p in parameters]

    def move(share: float) -> float:
        for parameter, old, new in zip(parameters, before, after, strict=True):
            parameter.copy_(torch.lerp(old, new, share))
        return error()

    errors = [move(share) for share in shares]
    # What is not a number is worse than anything.
    best = min(range(len(shares)), key=lambda i: float("inf") if errors[i] != errors[i] else errors[i])
    if best != len(shares) - 1:
        move(shares[best])
    return shares[best], errors[best]
