"""What a step on the whole network sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_lightning.calibration.walk.cache import Entry
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.model import SpikingModel


@dataclass
class NetworkContext:
    """The whole network under calibration, on this process's share of the calibration images.

    Args:
        ann: the normalised ANN.
        snn: the spiking model; calibrated in place.
        images: chunks `[n, ...]` in the cache, all but the last of one length.
        indices: numbers of each chunk's images in the whole calibration set, `[n]`.
        total: number of images of the whole set, over all processes.
        communicator: connects the processes.
        seed: for the private generator.
        iteration: called with (iteration, iterations, loss) during the loop.
    """

    ann: StageNetwork
    snn: SpikingModel
    images: Sequence[Entry]
    indices: Sequence[Tensor]
    total: int
    communicator: Communicator
    seed: int
    iteration: Callable[[int, int, float], None]

    def take(self, rows: Tensor) -> Tensor:
        """Return some of this process's images, `[n, ...]`; a chunk of which none is wanted is not read.

        Args:
            rows: their numbers among this process's images, `[n]`, all different.
        """
        size, rows = len(self.indices[0]), rows.cpu()
        order = rows.argsort()
        chunks, counts = (rows[order] // size).unique_consecutive(return_counts=True)
        wanted = (rows[order] % size).split(counts.tolist())
        parts = [self.images[i].get()[part] for i, part in zip(chunks.tolist(), wanted, strict=True)]
        return torch.cat(parts)[order.argsort()]
