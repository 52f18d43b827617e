"""Labelled images, in memory or in folders, that are fetched a batch at a time."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset
from torchvision.transforms import v2

from snn_lightning.data.augment import Augment, PrivateRandomness
from snn_lightning.errors import ImageError

Sample = tuple[Tensor, Any]
"""An image and what it shows: a label, or whatever a data set has."""


class Images(Protocol):
    """What a data module feeds: a map-style data set."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def __getitems__(self, indices: Sequence[int]) -> list[Sample]: ...
    def augmented(self, seed: int) -> "Images":
        """The same images with augmentation, drawn from a private stream."""
        ...


class LabelledImages(Images, Protocol):
    """What a data module splits by class: all labels are at hand."""

    labels: Tensor


class TensorImages(Dataset[Sample]):
    """Images held in memory.

    Args:
        images: `[N, C, H, W]`, uint8 in 0…255 or float in 0…1.
        labels: `[N]`, int64.
        mean: per channel, in 0…1.
        std: per channel, in 0…1.
        augment: maps a batch in the dtype of `images` to another; used by `augmented` only.

    Example:
        >>> pixels = torch.full((4, 1, 8, 8), 255, dtype=torch.uint8)
        >>> data = TensorImages(pixels, torch.arange(4), mean=[0.5], std=[0.25], augment=lambda batch: batch)
        >>> image, label = data[3]
        >>> image.mean().item(), label
        (2.0, 3)
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
    """Image files, decoded when they are fetched.

    Args:
        files: path and label of each.
        plain: maps a PIL image to `[C, H, W]` without randomness.
        augment: the same with augmentation; used by `augmented` only.
        mode: what every image is brought to: "RGB", or "L" (grey).

    Example:
        >>> from torchvision.transforms.functional import to_tensor
        >>> Image.new("RGB", (4, 2), "white").save("white.png")
        >>> image, label = FolderImages([("white.png", 7)], plain=to_tensor, augment=to_tensor)[0]
        >>> image.shape, label
        (torch.Size([3, 2, 4]), 7)
    """

    def __init__(
        self,
        files: Sequence[tuple[str, int]],
        plain: Callable[[Any], Tensor],
        augment: Callable[[Any], Tensor],
        mode: str = "RGB",
    ) -> None:
        self.files = files
        self.labels = torch.tensor([label for _, label in files])
        self.mode = mode
        self._plain = plain
        self._augment = augment
        self._randomness: PrivateRandomness | None = None

    def augmented(self, seed: int) -> "FolderImages":
        """A view of the same images with augmentation."""
        other = copy(self)
        other._randomness = PrivateRandomness(seed)
        return other

    def part(self, positions: Tensor) -> "FolderImages":
        """The images at some positions."""
        files = [self.files[position] for position in positions.tolist()]
        return FolderImages(files, self._plain, self._augment, self.mode)

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
        path, label = self.files[index]
        return transform(read_image(path, self.mode)), label


def read_image(path: str, mode: str) -> Image.Image:
    """Decode a file, and bring it to a mode of PIL.

    Raises:
        ImageError: it is damaged, no image, or has more than 8 bits a channel.

    Example:
        >>> Image.new("L", (4, 2)).save("grey.png")
        >>> read_image("grey.png", "RGB").size
        (4, 2)
    """
    try:
        with Image.open(path) as image:
            # PIL would cut their values off at 255.
            if image.mode.startswith(("I", "F")):
                raise ValueError("it has more than 8 bits a channel")
            return image.convert(mode)
    except Exception as error:  # of many types: OSError, SyntaxError, ValueError, ...
        raise ImageError(
            f"the image {path} can't be read ({error}): replace it by a whole one of 8 bits, or delete it"
        ) from error


def normalisation(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    """What makes a normalised tensor of a PIL image.

    Example:
        >>> image = Image.new("L", (4, 2), 255)
        >>> v2.Compose(normalisation([0.5], [0.25]))(image).mean().item()
        2.0
    """
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


def bilinear(images: Tensor, size: int) -> Tensor:
    """Bring `[N, C, H, W]` in 0…1 to `[N, C, size, size]` by bilinear interpolation.

    Example:
        >>> bilinear(torch.ones(1, 1, 8, 8), 16).shape
        torch.Size([1, 1, 16, 16])
    """
    return interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
