"""Augmentation of whole batches: each image draws its own parameters, all from torch's CPU generator."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import get_worker_info

from snn_lightning.transforms import mirrored, windows

Augment = Callable[[Tensor], Tensor]


class PrivateRandomness:
    """Lets code that draws from torch's global CPU generator draw from a seeded one instead.

    In a worker process the stream starts at the worker's own seed, so that workers don't repeat each other.

    Example:
        >>> randomness, before = PrivateRandomness(0), torch.get_rng_state()
        >>> with randomness.scope():
        ...     drawn = torch.rand(2)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._in_worker = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Within it the global CPU generator follows the private stream."""
        worker = get_worker_info()
        if worker is not None and not self._in_worker:
            self._generator.manual_seed(worker.seed)
            self._in_worker = True
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self._generator.get_state())
        try:
            yield
        finally:
            self._generator.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)


class RandomCrop:
    """Pad by zeros and cut out a window of the original size at a random place.

    Args:
        padding: pixels on each side.

    Example:
        >>> RandomCrop(4)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def __call__(self, images: Tensor) -> Tensor:
        """Crop `[N, C, H, W]`."""
        n, _, height, width = images.shape
        top, left = torch.randint(2 * self.padding + 1, (2, n))
        return windows(pad(images, [self.padding] * 4), top, left, height, width)


class RandomFlip:
    """Mirror each image left to right with probability one half.

    Example:
        >>> image = torch.tensor([[[[1, 2]]]])
        >>> RandomFlip()(image).flatten().tolist() in ([1, 2], [2, 1])
        True
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Flip `[N, C, H, W]`."""
        return mirrored(images, torch.rand(len(images)) < 0.5)


class Cutout:
    """Set a square at a random centre to a constant; it may reach over the border (DeVries & Taylor, 2017).

    Args:
        size: side of the square in pixels.
        fill: the value of each channel there, in the units of the images.

    Example:
        >>> holes = Cutout(2, fill=[0.5])(torch.ones(1, 1, 8, 8)) == 0.5
        >>> int(holes.sum()) in (1, 2, 4)
        True
    """

    def __init__(self, size: int, fill: Sequence[float] = (0.0,)) -> None:
        self.size = size
        self.fill = fill

    def __call__(self, images: Tensor) -> Tensor:
        """Cut a hole into each of `[N, C, H, W]`."""
        n, _, height, width = images.shape
        top = torch.randint(height, (n, 1)) - self.size // 2
        left = torch.randint(width, (n, 1)) - self.size // 2
        rows, columns = torch.arange(height), torch.arange(width)
        inside_rows = (rows >= top) & (rows < top + self.size)
        inside_columns = (columns >= left) & (columns < left + self.size)
        hole = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        fill = torch.tensor(self.fill).to(images.dtype)[None, :, None, None]
        return torch.where(hole, fill, images)


class PerImage:
    """Apply a transform to each image by itself, so that each draws its own parameters.

    Args:
        transform: maps `[C, H, W]` to `[C, H, W]`.

    Example:
        >>> images = torch.tensor([[[[1, 2]]], [[[5, 5]]]])
        >>> PerImage(lambda image: image - image.amin())(images).flatten().tolist()
        [0, 1, 0, 0]
    """

    def __init__(self, transform: Augment) -> None:
        self.transform = transform

    def __call__(self, images: Tensor) -> Tensor:
        """Transform each of `[N, C, H, W]`."""
        return torch.stack([self.transform(image) for image in images])


class Chain:
    """One augmentation after the other.

    Example:
        >>> Chain(lambda x: x + 1, lambda x: 2 * x)(torch.tensor([3])).item()
        8
    """

    def __init__(self, *steps: Augment) -> None:
        self.steps = steps

    def __call__(self, images: Tensor) -> Tensor:
        """Augment `[N, C, H, W]`."""
        for step in self.steps:
            images = step(images)
        return images
