"""Annotated images, with their boxes for detectors or their classes per pixel for segmentation."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode, functional

from snn_lightning.data.annotations import Annotations
from snn_lightning.data.augment import PrivateRandomness
from snn_lightning.data.imagenet import MEAN, STD
from snn_lightning.data.images import Sample, read_image
from snn_lightning.errors import ImageError, SettingsError

IGNORED = 255
"""The class of pixels that don't count: those of crowds."""


class _CocoImages(Dataset[Sample], ABC):
    """Some of the images that are annotated, decoded when they are fetched.

    Args:
        annotations: of these images and maybe others.
        ids: of the images.
    """

    def __init__(self, annotations: Annotations, ids: Sequence[Any]) -> None:
        self.annotations = annotations
        self.ids = ids
        self._labels = {category: label for label, category in enumerate(annotations.categories, 1)}
        self._randomness: PrivateRandomness | None = None

    @abstractmethod
    def sample(self, pixels: Tensor, image: Any, flip: bool) -> Sample:
        """Return the image of `[3, H, W]` uint8 with its targets, both mirrored if `flip`."""

    def augmented(self, seed: int) -> Self:
        """A view of the same images, each mirrored left to right with probability one half."""
        other = copy(self)
        other._randomness = PrivateRandomness(seed)
        return other

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        flips = [False] * len(indices)
        if self._randomness is not None:
            with self._randomness.scope():
                flips = (torch.rand(len(indices)) < 0.5).tolist()
        fetched = zip((self.ids[index] for index in indices), flips, strict=True)
        return [self.sample(self._pixels(image), image, flip) for image, flip in fetched]

    def _pixels(self, image: Any) -> Tensor:
        entry, path = self.annotations.images[image], self.annotations.path(image)
        try:
            pixels = functional.pil_to_tensor(read_image(str(path), "RGB"))
        except ImageError as error:
            raise ImageError(f"{error}; data.skip_unreadable=true leaves such images out") from error
        height, width = pixels.shape[1:]
        if (width, height) != (entry["width"], entry["height"]):
            raise ImageError(
                f"the image {path} has {width}x{height} pixels, and {self.annotations.file} says "
                f"{entry['width']}x{entry['height']}: its boxes are those of another size; replace the image "
                "or correct the file"
            )
        return pixels


class BoxImages(_CocoImages):
    """Images of their own sizes, `[3, H, W]` in 0…1, and what torchvision's detectors take as target.

    A target has `boxes [n, 4]` (x1, y1, x2, y2 in pixels), `labels [n]` (1…K), `area [n]`, `iscrowd [n]` and
    `image_id`.

    Args:
        annotations: of these images and maybe others.
        ids: of the images.
        crowds: whether boxes around crowds are among the boxes.
    """

    def __init__(self, annotations: Annotations, ids: Sequence[Any], crowds: bool = True) -> None:
        super().__init__(annotations, ids)
        self.crowds = crowds

    def sample(self, pixels: Tensor, image: Any, flip: bool) -> Sample:
        """Return the image and its target."""
        objects = [entry for entry in self.annotations.objects[image] if self.crowds or not is_crowd(entry)]
        boxes = torch.tensor([entry["bbox"] for entry in objects], dtype=torch.float32)
        left, top, width, height = boxes.reshape(-1, 4).unbind(1)
        if flip:
            pixels, left = pixels.flip(2), pixels.shape[2] - left - width
        labels = [self._labels[entry["category_id"]] for entry in objects]
        target = {
            "boxes": torch.stack([left, top, left + width, top + height], 1),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "image_id": image,
            "area": torch.tensor([_area(entry) for entry in objects], dtype=torch.float32),
            "iscrowd": torch.tensor([int(is_crowd(entry)) for entry in objects], dtype=torch.int64),
        }
        return pixels.float() / 255, target


class MaskImages(_CocoImages):
    """Normalised squares `[3, S, S]`, and the class of each pixel `[S, S]`: 0 is background, 255 is ignored.

    The shorter side is brought to S pixels and the centre cut out. Where objects cover each other the smaller
    one is on top; crowds lie below all.

    Args:
        annotations: of these images and maybe others.
        ids: of the images.
        size: S.

    Raises:
        SettingsError: there are more classes than fit below 255.
    """

    def __init__(self, annotations: Annotations, ids: Sequence[Any], size: int) -> None:
        super().__init__(annotations, ids)
        self.size = size
        if len(annotations.categories) >= IGNORED:
            raise SettingsError(
                f"data.target=masks takes up to {IGNORED - 1} categories, and {annotations.file} has "
                f"{len(annotations.categories)}: set data.target=boxes, or delete some"
            )

    def sample(self, pixels: Tensor, image: Any, flip: bool) -> Sample:
        """Return the square and the classes of its pixels."""
        mask = self._paint(image)[None]
        pixels = functional.resize(pixels.float() / 255, [self.size], antialias=True)
        # "Nearest exact" takes the middles of pixels, as bilinear interpolation does.
        mask = functional.resize(mask, [self.size], interpolation=InterpolationMode.NEAREST_EXACT)
        pixels, mask = (functional.center_crop(values, [self.size]) for values in (pixels, mask))
        if flip:
            pixels, mask = pixels.flip(2), mask.flip(2)
        return functional.normalize(pixels, list(MEAN), list(STD)), mask[0].long()

    def _paint(self, image: Any) -> Tensor:
        entry = self.annotations.images[image]
        classes = np.zeros((entry["height"], entry["width"]), dtype=np.uint8)
        for annotation in sorted(self.annotations.objects[image], key=_layer):
            label = IGNORED if is_crowd(annotation) else self._labels[annotation["category_id"]]
            try:
                classes[self.annotations.coco.annToMask(annotation) > 0] = label
            except Exception as error:  # of many types, by what it holds instead of polygons
                raise SettingsError(
                    f"data.root: {self.annotations.file}: annotation {annotation['id']} of image {image} "
                    f"({entry['file_name']}): its segmentation can't be painted ({error!r}): it must be "
                    "polygons or run lengths; correct it, or set data.target=boxes"
                ) from error
        return torch.from_numpy(classes)


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is of a crowd instead of one object."""
    return bool(annotation.get("iscrowd", 0))


def as_lists(samples: list[Sample]) -> tuple[list[Tensor], list[Any]]:
    """Make a batch of images of any sizes: a list of them, and a list of their targets.

    Example:
        >>> images, targets = as_lists([(torch.zeros(3, 4, 6), {"image_id": 7}), (torch.zeros(3, 5, 5), {})])
        >>> len(images), targets[0]
        (2, {'image_id': 7})
    """
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def _area(annotation: dict[str, Any]) -> float:
    width, height = annotation["bbox"][2:]
    return float(annotation.get("area", width * height))


def _layer(annotation: dict[str, Any]) -> tuple[bool, float]:
    """Order of painting: crowds first, then objects from large to small."""
    return not is_crowd(annotation), -_area(annotation)
