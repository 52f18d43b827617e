"""Labelled images, in memory or in folders, that are fetched a batch at a time."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from snn_lightning.data.augment import Augment, PrivateRandomness

Sample = tuple[Tensor, int]


class LabelledImages(Protocol):
    """What a data module splits: a map-style data set with all labels at hand."""

    labels: Tensor

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def __getitems__(self, indices: Sequence[int]) -> list[Sample]: ...
    def augmented(self, seed: int) -> "LabelledImages":
        """The same images with augmentation, drawn from a private stream."""
        ...


class TensorImages(Dataset[Sample]):
    """Images held in memory.

    Args:
        images: `[N, C, H, W]`, uint8 in 0…255 or float in 0…1.
        labels: `[N]`, int64.
        mean: per channel, in 0…1.
        std: per channel, in 0…1.
        augment: maps a batch in the dtype of `images` to another; used by `augmented` only.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float], augment: Augment
    ) -> None:
        self.images = images
        self.labels = labels
        self.mean = torch.tensor(mean)[:, None, None]
        self.std = torch.tensor(std)[:, None, None]
        self._augment = augment
        self._randomness: PrivateRandomness | None = None

    def augmented(self, seed: int) -> "TensorImages":
        """A view of the same images with augmentation."""
        other = TensorImages.__new__(TensorImages)
        other.__dict__.update(self.__dict__)
        other._randomness = PrivateRandomness(seed)
        return other

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        chosen = torch.as_tensor(indices)
        images = self.images[chosen]
        if self._randomness is not None:
            with self._randomness.scope():
                images = self._augment(images)
        if images.dtype == torch.uint8:
            images = images.float().div_(255)
        images = (images - self.mean) / self.std
        return list(zip(images.unbind(), self.labels[chosen].tolist(), strict=True))


class FolderImages(Dataset[Sample]):
    """Images in a folder for each class, decoded when they are fetched.

    Args:
        folder: torchvision's ImageFolder, without a transform.
        plain: maps a PIL image to `[C, H, W]` without randomness.
        augment: the same with augmentation; used by `augmented` only.
    """

    def __init__(
        self, folder: ImageFolder, plain: Callable[[Any], Tensor], augment: Callable[[Any], Tensor]
    ) -> None:
        self.folder = folder
        self.labels = torch.tensor(folder.targets)
        self._plain = plain
        self._augment = augment
        self._randomness: PrivateRandomness | None = None

    def augmented(self, seed: int) -> "FolderImages":
        """A view of the same images with augmentation."""
        other = FolderImages.__new__(FolderImages)
        other.__dict__.update(self.__dict__)
        other._randomness = PrivateRandomness(seed)
        return other

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        if self._randomness is None:
            return [self._fetch(index, self._plain) for index in indices]
        with self._randomness.scope():
            return [self._fetch(index, self._augment) for index in indices]

    def _fetch(self, index: int, transform: Callable[[Any], Tensor]) -> Sample:
        image, label = self.folder[index]
        return transform(image), label
