"""New copies of the calibration images for each mini-batch of a step on the whole network."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.calibration.augmentation import Copies
from snn_lightning.calibration.walk.cache import Cache
from snn_lightning.calibration.walk.communicator import Communicator


class FreshCopies:
    """Makes augmented copies of the originals, which it keeps in the cache.

    Args:
        copies: what has made the augmented images of the walk.
        cache: where the originals go.
        device: where the calibration runs.
        communicator: says which images this process has.
    """

    def __init__(
        self, copies: Copies, cache: Cache, device: torch.device, communicator: Communicator
    ) -> None:
        self._entries = [cache.put(image.to(device)) for image in copies.originals]
        shapes, held_out = copies.shapes, copies.held_out
        self._copies = Copies(copies.settings, shapes, lambda i: self._entries[i].get(), held_out)
        self._communicator = communicator

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return random numbers for new copies, of all images of the set, whoever has them."""
        return self._copies.draw(generator)

    def make(self, rows: Tensor, draws: Tensor) -> Tensor:
        """Return new copies, `[n, C, H, W]`.

        Args:
            rows: numbers among this process's images, `[n]`, of one size.
            draws: as `draw` gives them.
        """
        numbers = rows * self._communicator.world_size + self._communicator.rank
        return self._copies.make(numbers.tolist(), draws)

    def free(self) -> None:
        """Give the originals' memory back."""
        for entry in self._entries:
            entry.free()
