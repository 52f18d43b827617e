"""Activations of a pretraining that a neuron takes the place of as `min(max(x, 0), cap)`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class BoundedActivation(nn.Module):
    """Base of activations with an upper bound, whatever else they do while the ANN is trained.

    Conversion writes each call as a site with that cap. A subclass has `cap` and `activate`, and leaves
    `forward` alone.

    Attributes:
        cap: the upper bound, one number as a tensor `[]`, activation units; a parameter where it is trained.
        plain: whether calling it gives the site's own form instead of the activation's.
    """

    cap: Tensor
    plain: bool = False

    def activate(self, x: Tensor) -> Tensor:
        """Return the activation of `x`, of any shape, with which the ANN is trained and tested."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return `activate(x)`; or `min(max(x, 0), cap)` where `plain` is set."""
        return x.clamp(min=0).minimum(self.cap.to(x.dtype)) if self.plain else self.activate(x)


@contextmanager
def plain_activations(ann: nn.Module) -> Iterator[None]:
    """Let every `BoundedActivation` activation in `ann` be its site's `min(max(x, 0), cap)` for a while."""
    modules = [module for module in ann.modules() if isinstance(module, BoundedActivation)]
    before = [module.plain for module in modules]
    for module in modules:
        module.plain = True
    try:
        yield
    finally:
        for module, plain in zip(modules, before, strict=True):
            module.plain = plain
