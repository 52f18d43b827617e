"""How far a fit goes, by images that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

import torch
from torch import Tensor

SHARES = (1.0, 0.75, 0.5, 0.25)
"""Of the way from what parameters were to what they were fitted to, where images are held out."""


@torch.no_grad()
def go_back(
    parameters: Sequence[Tensor],
    before: Sequence[Tensor],
    error: Callable[[], float],
    unfitted: float,
    held_out: bool = True,
) -> tuple[float, float]:
    """Move fitted parameters back towards what they were, to where `error` is least.

    Args:
        parameters: as they were fitted; changed in place.
        before: what they were.
        error: of the network as it is.
        unfitted: what it was before.
        held_out: whether it is of images that were not fitted to. If not, it is the whole way or none.

    Returns:
        The share of the way that is left, and the error there.

    Example:
        >>> weight = torch.tensor([4.0])
        >>> go_back([weight], [torch.tensor([0.0])], lambda: abs(weight.item() - 2.25), unfitted=2.25)
        (0.5, 0.25)
        >>> weight
        tensor([2.])
    """
    after = [p.clone() for p in parameters]

    def move(share: float) -> None:
        for parameter, old, new in zip(parameters, before, after, strict=True):
            parameter.copy_(torch.lerp(old, new, share))

    errors = {}
    for share in SHARES if held_out else SHARES[:1]:
        move(share)
        errors[share] = error()
    errors[0.0] = unfitted
    # What is not a number is worse than anything.
    best = min(errors, key=lambda share: float("inf") if isnan(errors[share]) else errors[share])
    move(best)
    return best, errors[best]
