"""Where each of a process's images lies, when they are held in parts."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor


class Places:
    """Finds images by their rows: row k is the process's k-th image, by the numbers in the whole set.

    Args:
        parts: numbers of the images in each part, in the order in which they lie there, `[n]`.

    Example:
        >>> places = Places([torch.tensor([0, 4]), torch.tensor([2, 6, 8])])
        >>> [(part, where.tolist(), at.tolist()) for part, where, at in places.split(torch.tensor([3, 0, 1]))]
        [(0, [1], [0]), (1, [0, 2], [1, 0])]
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.places = torch.cat([*parts]).argsort()
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    def split(self, rows: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Find some rows.

        Args:
            rows: `[n]`, all different.

        Yields:
            For each part with some of them its number, which of `rows` they are, and where they lie in it.
        """
        places = self.places[rows.cpu()]
        parts = torch.bucketize(places, self.ends, right=True)
        for part in parts.unique().tolist():
            where = (parts == part).nonzero().flatten()
            start = int(self.ends[part - 1]) if part else 0
            yield part, where, places[where] - start


def alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the numbers of equal keys together, in the order in which they come.

    Example:
        >>> alike(["a", "b", "a"])
        [[0, 2], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    return list(groups.values())
