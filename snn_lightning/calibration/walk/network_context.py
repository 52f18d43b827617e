"""What a step on the whole network sees of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from snn_lightning.calibration.walk.cache import Entry
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.division import Division
from snn_lightning.calibration.walk.fresh import FreshCopies
from snn_lightning.calibration.walk.places import Places, alike
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.model import SpikingModel


@dataclass
class NetworkContext(Division):
    """The whole network under calibration, on this process's share of the calibration images.

    Args:
        ann: the normalised ANN.
        snn: the spiking model; calibrated in place.
        images: chunks `[n, ...]` in the cache, the images of each of one size.
        indices: numbers of each chunk's images in the whole calibration set, `[n]`.
        total: number of images of the whole set, over all processes.
        fitted: the first so many are fitted to; by the rest, held out, a step chooses how far it goes.
        communicator: connects the processes.
        seed: for the private generator.
        iteration: called with (iteration, iterations, loss) during the loop.
        fresh: makes new copies of the images; None without augmentation.
    """

    ann: StageNetwork
    snn: SpikingModel
    images: Sequence[Entry]
    indices: Sequence[Tensor]
    total: int
    fitted: int
    communicator: Communicator
    seed: int
    iteration: Callable[[int, int, float], None]
    fresh: FreshCopies | None = None

    def of_one_size(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield parts of `rows`, numbers among this process's images, `[n]`: the images of each size."""
        for _, where, _ in self._sizes.split(rows):
            yield rows[where]

    def take(self, rows: Tensor, chunks: Sequence[Tensor] | None = None) -> Tensor:
        """Return something of some images, `[n, ...]`; a chunk of which none is wanted is not read.

        Args:
            rows: their numbers among this process's images, `[n]`, all different; of one size.
            chunks: what is returned of them, chunk by chunk; the images themselves by default.
        """
        parts, order = [], []
        for i, where, positions in self._chunks.split(rows):
            chunk = self.images[i].get() if chunks is None else chunks[i]
            parts.append(chunk[positions])
            order.append(where)
        return torch.cat(parts)[torch.cat(order).argsort()]

    @cached_property
    def _chunks(self) -> Places:
        return Places(self.indices)

    @cached_property
    def _sizes(self) -> Places:
        sizes = alike([image.shape[1:] for image in self.images])
        return Places([torch.cat([self.indices[i] for i in chunks]) for chunks in sizes])
