"""Splits and subsets that are the same in every run."""

import math

import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from snn_lightning.errors import SettingsError


def stratified_split(labels: Tensor, fraction: float, field: str) -> tuple[Tensor, Tensor]:
    """Split positions in two, each class in proportion, always in the same way.

    Args:
        labels: `[N]`.
        fraction: the second part's share of N.
        field: the setting `fraction` comes from, for the message.

    Returns:
        Positions of the first and of the second part, int64, each ascending.

    Raises:
        SettingsError: too few images for a second part that has every class.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> first, second = stratified_split(labels, 0.25, "data.val_fraction")
        >>> len(first), len(second)
        (6, 2)
    """
    try:
        first, second = train_test_split(
            torch.arange(len(labels)).numpy(), test_size=fraction, stratify=labels.numpy(), random_state=0
        )
    except ValueError as error:
        raise SettingsError(f"{field}={fraction} can't split {len(labels)} images: {error}") from error
    return torch.from_numpy(first).sort().values, torch.from_numpy(second).sort().values


def random_split(count: int, fraction: float, field: str) -> tuple[Tensor, Tensor]:
    """Split the positions 0…count-1 in two, always in the same way.

    Args:
        count: N.
        fraction: the second part's share of N.
        field: the setting `fraction` comes from, for the message.

    Returns:
        Positions of the first and of the second part, int64, each ascending.

    Raises:
        SettingsError: a part would be empty.

    Example:
        >>> first, second = random_split(8, 0.25, "data.val_fraction")
        >>> len(first), len(second), len(set(first.tolist()) & set(second.tolist()))
        (6, 2, 0)
    """
    held = math.ceil(count * fraction)
    if not 0 < held < count:
        raise SettingsError(
            f"{field}={fraction} can't split {count} images: it would leave {count - held} of them; "
            "take more images or another fraction"
        )
    order = draw(torch.arange(count), count, 0, field)
    return order[held:].sort().values, order[:held].sort().values


def limit(positions: Tensor, count: int | None, field: str) -> Tensor:
    """A subset of `count` positions, always the same one; None keeps all.

    Raises:
        SettingsError: there are fewer than `count`; the message names `field`.

    Example:
        >>> len(limit(torch.arange(100), 10, "data.test_images"))
        10
    """
    return positions if count is None else draw(positions, count, 0, field).sort().values


def draw(positions: Tensor, count: int, seed: int, field: str) -> Tensor:
    """`count` different positions in a random order, by a private generator.

    Raises:
        SettingsError: there are fewer than `count`; the message names `field`.

    Example:
        >>> sorted(draw(torch.tensor([5, 6, 7]), 3, seed=0, field="data.calibration_images").tolist())
        [5, 6, 7]
    """
    if count > len(positions):
        raise SettingsError(
            f"{field}={count}, but there are only {len(positions)} images: set it to at most that"
        )
    generator = torch.Generator().manual_seed(seed)
    return positions[torch.randperm(len(positions), generator=generator)[:count]]
