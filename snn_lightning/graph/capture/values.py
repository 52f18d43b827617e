"""What a lowering computes with: the values of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Value:
    """A tensor in the graph: the name of the node that makes it, and what it looked like on the sample."""

    name: str
    shape: torch.Size


class Mask(Value):
    """Where the value called `name` is above zero: what a comparison gives, and no operator reads."""

    def of(self, x: object) -> bool:
        """Whether it is the mask of the value `x`."""
        return type(x) is Value and x.name == self.name


class Unbatched(Value):
    """A tensor that an analog call gives, and that has no batch in front: no operator can read it."""


class Unsupported(Exception):
    """Raised by a rule that meets something it can't lower; the message is the remedy."""
