"""Collect the calibration images and share them out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from snn_lightning.errors import CalibrationError


def inputs_of(batch: Any) -> Tensor:
    """Return the inputs of a batch: the batch itself, or the first of (inputs, anything).

    Raises:
        CalibrationError: the batch is of another form.
    """
    inputs = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if not isinstance(inputs, Tensor):
        raise CalibrationError(
            f"A calibration batch must be a tensor or a tuple that starts with one, got {type(batch).__name__} with "
            f"{type(inputs).__name__}. Wrap the loader so that it yields input tensors."
        )
    return inputs


def collect_images(loader: Iterable[Any]) -> list[Tensor]:
    """Return all batches of inputs `[N, ...]`.

    Raises:
        CalibrationError: there are none, or they hold NaN.
    """
    batches = [inputs_of(batch) for batch in loader]
    if not sum(len(batch) for batch in batches):
        raise CalibrationError("The calibration set is empty: give a loader with at least one image.")
    for batch in batches:
        if batch.is_floating_point() and not torch.isfinite(batch).all():
            raise CalibrationError("The calibration images have NaN or infinite values; clean the data first.")
    return batches


def shard(batches: list[Tensor], rank: int, world_size: int, size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Give a process its share `rank::world_size` of the images, in chunks that do not depend on the loader's batches.

    Args:
        batches: all inputs, each `[n, ...]`; images of different sizes come in different batches.
        rank: of this process.
        world_size: number of processes.
        size: images a chunk.

    Returns:
        Chunks `[n <= size, ...]` and, for each, the numbers of its images in the whole set.

    Raises:
        CalibrationError: there are fewer images than processes.
    """
    images = [image for batch in batches for image in batch]
    if len(images) < world_size:
        raise CalibrationError(
            f"The calibration set has {len(images)} images for {world_size} processes: give each at least one."
        )
    mine = range(rank, len(images), world_size)
    chunks: list[list[int]] = []
    for i in mine:
        if chunks and len(chunks[-1]) < size and images[chunks[-1][0]].shape == images[i].shape:
            chunks[-1].append(i)
        else:
            chunks.append([i])
    return [torch.stack([images[i] for i in chunk]) for chunk in chunks], [torch.tensor(chunk) for chunk in chunks]
