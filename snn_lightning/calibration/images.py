"""Collect the calibration images and share them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from snn_lightning.errors import CalibrationError
from snn_lightning.graph.threads import alone

SMALL_SET = 256
"""Of fewer images what is fitted is doubted: some are held out, and potentials shrink."""

EMPTY = "The calibration set is empty: give a loader with at least one image."


def inputs_of(batch: Any) -> Tensor:
    """Return the inputs of a batch: the batch itself, or the first of (inputs, anything).

    Raises:
        CalibrationError: the batch is of another form.
    """
    inputs = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if not isinstance(inputs, Tensor):
        raise CalibrationError(
            "A calibration batch must be a tensor or a tuple that starts with one, got "
            f"{type(batch).__name__} with {type(inputs).__name__}. Wrap the loader so that it yields input "
            "tensors; of a model that takes something else, as detectors do, name the part that becomes "
            "spiking: network='backbone.body'."
        )
    return inputs


def collect_images(loader: Iterable[Any], seed: int = 0) -> list[Tensor]:
    """Return all batches of inputs `[N, ...]`.

    Args:
        loader: of batches.
        seed: for a loader that shuffles, so that every run and every process gets the same order.

    Raises:
        CalibrationError: there are none, they hold NaN, or they are of another form.
    """
    with alone():
        return check_images(map(inputs_of, batches_of(loader, seed)))


def batches_of(loader: Iterable[Any], seed: int) -> Iterator[Any]:
    """Yield the batches of a loader; to be run `alone`, as it seeds the process' generator.

    Args:
        loader: of batches.
        seed: for a loader that shuffles, so that every run and every process gets the same order.

    Raises:
        CalibrationError: there are none.
    """
    if isinstance(loader, Tensor):
        raise CalibrationError("The calibration loader is a tensor: pass a loader of batches, or [tensor].")
    torch.manual_seed(seed)
    batch = None
    for batch in loader:
        yield batch
    if batch is None:
        raise CalibrationError(EMPTY)


def check_images(batches: Iterable[Tensor]) -> list[Tensor]:
    """Return all batches that are not empty.

    Raises:
        CalibrationError: there are none, or they hold NaN.
    """
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        raise CalibrationError(EMPTY)
    for batch in batches:
        if batch.is_floating_point() and not torch.isfinite(batch).all():
            raise CalibrationError(
                "The calibration images have NaN or infinite values; clean the data first."
            )
    return batches


def count_images(step: str, wanted: int | None, total: int, batch: int = 1) -> int:
    """Return how many of the calibration images a step uses.

    Args:
        step: the pipeline's field that holds its settings, for messages.
        wanted: what its setting `images` says; None for all.
        total: images of the calibration set.
        batch: images of its mini-batch, its setting `batch_size`.

    Raises:
        CalibrationError: it wants more than there are, or has fewer than a mini-batch.
    """
    if wanted is not None and wanted > total:
        raise CalibrationError(
            f"The step '{step}' wants {wanted} images and the calibration set has {total}: give more images "
            f"(data.calibration_images), or set {step}.images to {total} or less, or to null for all."
        )
    count = total if wanted is None else wanted
    if count < batch:
        more = "give more images (data.calibration_images)" if wanted is None else f"raise {step}.images"
        raise CalibrationError(
            f"The step '{step}' has {count} images, fewer than its batch of {batch}: {more}, or set "
            f"{step}.batch_size to {count} or less."
        )
    return count


def held_out_last(batches: Iterable[Tensor], count: int) -> list[Tensor]:
    """Return the images, those that are held out at the end.

    Args:
        batches: all inputs, each `[n, ...]`.
        count: how many are held out: at even distances, so that they are a sample of a set of any order.

    Returns:
        All images `[...]`, in their order but for the held-out ones.

    Example:
        >>> [int(image) for image in held_out_last([torch.arange(4), torch.arange(4, 8)], 2)]
        [0, 1, 3, 4, 5, 7, 2, 6]
    """
    images = [image for batch in batches for image in batch]
    held = {(2 * i + 1) * len(images) // (2 * count) for i in range(count)}
    return [image for i, image in enumerate(images) if i not in held] + [images[i] for i in sorted(held)]


def shard(
    images: Sequence[Tensor], rank: int, world_size: int, size: int
) -> tuple[Iterator[Tensor], list[Tensor]]:
    """Give a process its share `rank::world_size` of the images, in chunks.

    Args:
        images: all of them, `[...]` each, of one size or of several.
        rank: of this process.
        world_size: number of processes.
        size: images a chunk.

    Returns:
        Chunks `[n <= size, ...]` of images of one size, each made when it is asked for, and the numbers of
        each chunk's images in the whole set.

    Raises:
        CalibrationError: there are fewer images than processes.
    """
    if len(images) < world_size:
        raise CalibrationError(
            f"The calibration set has {len(images)} images for {world_size} processes: give each at least "
            "one."
        )
    mine = range(rank, len(images), world_size)
    chunks: list[list[int]] = []
    last: dict[torch.Size, list[int]] = {}
    for i in mine:
        chunk = last.get(images[i].shape, [])
        if len(chunk) in (0, size):
            last[images[i].shape] = chunk = []
            chunks.append(chunk)
        chunk.append(i)
    stacked = (torch.stack([images[i] for i in chunk]) for chunk in chunks)
    return stacked, [torch.tensor(chunk) for chunk in chunks]
