"""Augmentation of a small calibration set; the targets are what the ANN gives for what it sees, no labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import pad

from snn_lightning.errors import CalibrationError
from snn_lightning.settings import Settings, check_flag, check_interval, check_whole
from snn_lightning.transforms import mirrored, recoloured, windows, zoomed

SMALL = 1024
"""`augment="auto"` is for sets of fewer images: distillation then makes new copies of them."""

FEW = 64
"""Of a set of fewer images the walk gets copies too; of more, they would move its statistics for nothing."""

DRAWS = 14
"""Random numbers of a copy, whatever is on, so that no setting changes what another one draws."""

STREAM = 50_021
"""Parts the random numbers of copies from others of the same seed."""

AT_ONCE = 64
"""Copies that are made at the same time."""


@dataclass(frozen=True)
class Augmentation(Settings):
    """How copies of the calibration images are made, for a pipeline's `augment`.

    Each copy draws numbers of its own, and is blended, zoomed, shifted, mirrored and recoloured by them, in
    this order.

    Args:
        flip: mirror left to right with probability one half.
        shift: most that a copy moves in each direction, as a part of the side; what comes into view is the
            image mirrored at its border.
        crop: least share of the area of the random window that is enlarged to the whole image; None does not.
        mix: probability of blending with another image of the set of the same size, which gets up to half of
            the weight.
        colour: most that brightness, contrast and each channel's gain are changed, as a part of them; of
            images with three channels.
        images: how many images the walk gets: the originals, and copies of them in turn until there are so
            many.

    Example:
        >>> Augmentation(flip=False, shift=0.1).count(32)
        256
    """

    flip: bool = True
    shift: float = 0.1
    crop: float | None = None
    mix: float = 0.0
    colour: float = 0.0
    images: int = 256

    def __post_init__(self) -> None:
        check_flag("augment.flip", self.flip)
        check_interval("augment.shift", self.shift, "[0, 0.5]")
        if self.crop is not None:
            check_interval("augment.crop", self.crop, "(0, 1]")
        check_interval("augment.mix", self.mix, "[0, 1]")
        check_interval("augment.colour", self.colour, "[0, 1)")
        check_whole("augment.images", self.images)

    def count(self, given: int) -> int:
        """Return how many images a set of `given` images becomes."""
        return max(given, self.images)

    def apply(self, images: Tensor, others: Tensor, draws: Tensor) -> Tensor:
        """Return a copy of each image, by its own random numbers.

        Args:
            images: `[N, C, H, W]`; left as they are.
            others: the images that each may be blended with, `[N, C, H, W]`.
            draws: random numbers in [0, 1), `[N, 14]`; the last of each has chosen the other image.
        """
        numbers = draws[:, :-1].to(images.device, images.dtype).unbind(1)
        flip, down, right, area, top, left, mixed, weight, brightness, contrast, *gains = numbers
        if self.mix:
            share = torch.where(mixed < self.mix, weight / 2, 0)[:, None, None, None]
            images = torch.lerp(images, others, share)
        if self.crop is not None:
            side = (self.crop + (1 - self.crop) * area).sqrt()
            images = zoomed(images, side, top, left)
        if self.shift:
            images = _shifted(images, self.shift, down, right)
        if self.flip:
            images = mirrored(images, flip < 0.5)
        if self.colour and images.shape[1] == 3:
            gain = self._factor(brightness)[:, None] * self._factor(torch.stack(gains, 1))
            images = recoloured(images, gain, self._factor(contrast))
        return images

    def _factor(self, draw: Tensor) -> Tensor:
        return 1 + self.colour * (2 * draw - 1)


def _shifted(images: Tensor, part: float, down: Tensor, right: Tensor) -> Tensor:
    """Move each image by up to a part of its sides, by draws in [0, 1); it is mirrored at its border."""
    height, width = images.shape[2:]
    # A side of one pixel has nothing to mirror.
    rows, columns = (min(round(part * side), side - 1) for side in (height, width))
    padded = pad(images, [columns, columns, rows, rows], mode="reflect")
    # In few bits a draw may be rounded to 1.
    top = (down * (2 * rows + 1)).long().clamp(max=2 * rows)
    left = (right * (2 * columns + 1)).long().clamp(max=2 * columns)
    return windows(padded, top, left, height, width)


def decide(
    augment: Augmentation | str | None, given: int, batches: Sequence[Tensor] = ()
) -> Augmentation | None:
    """Return how a calibration set is augmented; None where it isn't.

    Args:
        augment: what the pipeline says.
        given: images of the set.
        batches: inputs `[N, ...]` of the set; taken for images where there are none to look at.

    Raises:
        CalibrationError: an augmentation is asked for and they are no images.
    """
    odd = [batch for batch in batches if batch.dim() != 4 or not batch.is_floating_point()]
    if isinstance(augment, Augmentation):
        if odd:
            raise CalibrationError(
                "augment is of images [N, C, H, W] of floating point numbers, and the calibration set has a "
                f"batch {list(odd[0].shape)} of {odd[0].dtype}: set augment=None (augment=null), or 'auto', "
                "which leaves such inputs as they are."
            )
        return augment
    # Other numbers of channels are features inside a network: what leaves them alike nobody knows.
    images = not odd and all(batch.shape[1] in (1, 3) for batch in batches)
    if augment != "auto" or not images or given >= SMALL:
        return None
    return Augmentation() if given < FEW else Augmentation(images=given)


def generator_of(seed: int) -> torch.Generator:
    """Return the private generator that copies are drawn from."""
    return torch.Generator().manual_seed(seed + STREAM)


class Copies:
    """Makes augmented copies of the images of a set.

    Args:
        settings: how.
        shapes: `[C, H, W]` of each image.
        image: gives an image, `[C, H, W]`, by its number.
        held_out: how many images at the end of the set are held out; they and their copies come last.

    Attributes:
        origins: the number of the original of each image of the augmented set.
        fitted: how many of these are not held out.
    """

    def __init__(
        self,
        settings: Augmentation,
        shapes: Sequence[torch.Size],
        image: Callable[[int], Tensor],
        held_out: int = 0,
    ) -> None:
        self.settings, self.shapes, self.held_out, self._image = settings, shapes, held_out, image
        total, first = settings.count(len(shapes)), len(shapes) - held_out
        self.fitted = total * first // len(shapes)
        self.origins = [i % first for i in range(self.fitted)]
        self.origins += [first + i % held_out for i in range(total - self.fitted)]
        self._alike: dict[tuple[torch.Size, bool], list[int]] = {}
        for i, shape in enumerate(shapes):
            self._alike.setdefault((shape, i < first), []).append(i)

    @property
    def originals(self) -> Iterator[Tensor]:
        """The images of the set, one after the other."""
        return map(self._image, range(len(self.shapes)))

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return random numbers for every image of the augmented set, `[total, 14]`."""
        return torch.rand(len(self.origins), DRAWS, generator=generator)

    def make(self, numbers: Sequence[int], draws: Tensor) -> Tensor:
        """Return new copies of the originals of some images of the augmented set.

        Args:
            numbers: of the images, whose originals have one size.
            draws: as `draw` gives them.

        Returns:
            The copies, `[n, C, H, W]`.
        """
        originals = [self.origins[i] for i in numbers]
        images, draws = torch.stack([self._image(i) for i in originals]), draws[list(numbers)]
        others = images
        if self.settings.mix:
            partners = zip(originals, draws[:, -1].tolist(), strict=True)
            others = torch.stack([self._image(self._partner(i, draw)) for i, draw in partners])
        return self.settings.apply(images, others, draws)

    def batches(self, seed: int) -> list[Tensor]:
        """Return the copies in the augmented set, in order.

        Args:
            seed: of the private generator.
        """
        draws, made = self.draw(generator_of(seed)), []
        new = [i for i in range(len(self.origins)) if not self._original(i)]
        for _, same in groupby(new, lambda i: self.shapes[self.origins[i]]):
            numbers = list(same)
            made += [self.make(numbers[i : i + AT_ONCE], draws) for i in range(0, len(numbers), AT_ONCE)]
        return made

    def augmented(self, seed: int) -> list[Tensor]:
        """Return the augmented set image by image, `[C, H, W]` each: originals as they are, then copies.

        Args:
            seed: of the private generator.
        """
        copies = (image for batch in self.batches(seed) for image in batch)
        return [
            self._image(origin) if self._original(i) else next(copies)
            for i, origin in enumerate(self.origins)
        ]

    def _original(self, number: int) -> bool:
        """Whether an image of the augmented set is the original itself."""
        first = len(self.shapes) - self.held_out
        return number < first or self.fitted <= number < self.fitted + self.held_out

    def _partner(self, number: int, draw: float) -> int:
        """Return another original of the same size, held out like it; itself where there is no other."""
        same = self._alike[self.shapes[number], number < len(self.shapes) - self.held_out]
        other = int(draw * (len(same) - 1))
        return number if len(same) == 1 else same[other + (other >= same.index(number))]
