"""What synthetic images are optimised for: pure maths on tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def moments(parts: Sequence[Tensor], dim: int = 1) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel over all else, of several tensors together.

    Args:
        parts: each `[N, C, ...]`, or with the channels at `dim`.
        dim: of the channels.

    Returns:
        Mean and (biased) variance, `[C]` each.

    Example:
        >>> moments([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])])
        (tensor([2., 2.]), tensor([1., 0.]))
    """
    flat = [part.movedim(dim, 0).flatten(1) for part in parts]
    if len(flat) == 1:
        variance, mean = torch.var_mean(flat[0], 1, correction=0)
    else:
        variance, mean = torch.var_mean(torch.cat(flat, 1), 1, correction=0)
    return mean, variance


def matching(mean: Tensor, variance: Tensor, wanted_mean: Tensor, wanted_variance: Tensor) -> Tensor:
    """Return how far statistics of a layer are from those wanted, in units of the layer's deviation.

    (‖μ − μ*‖² + ‖σ − σ*‖²) / ‖σ*‖²: the same whatever the scale of the activations, and of the channels those
    count most that vary most.

    Args:
        mean: `[C]`, activation units.
        variance: `[C]`.
        wanted_mean: `[C]`.
        wanted_variance: `[C]`.

    Example:
        >>> one, zero = torch.ones(2), torch.zeros(2)
        >>> round(matching(one, 4 * one, zero, one).item(), 4)  # a mean and a deviation off by 1, both
        2.0
    """
    scale = wanted_variance.sum().clamp(min=1e-12)
    tiny = 1e-6 * scale / len(variance)  # the root of nothing has no derivative
    deviation = (variance + tiny).sqrt() - (wanted_variance + tiny).sqrt()
    return ((mean - wanted_mean).square().sum() + deviation.square().sum()) / scale


def total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbouring pixels, down plus across.

    Args:
        images: `[N, C, H, W]`.

    Example:
        >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])).item()
        1.0
    """
    down = images[..., 1:, :] - images[..., :-1, :]
    across = images[..., 1:] - images[..., :-1]
    return sum((part.abs().mean() for part in (down, across) if part.numel()), images.new_zeros(()))


def to_grey(images: Tensor) -> Tensor:
    """Return the mean squared distance of pixels in 0…1 to mid grey.

    Example:
        >>> to_grey(torch.tensor([0.0, 0.5, 1.0, 0.5])).item()
        0.125
    """
    return (images - 0.5).square().mean()


def similarity(features: Tensor) -> Tensor:
    """Return how alike images are: the mean squared cosine between centred features of different images.

    Features are centred by their mean over the batch; 0 where each image differs from it in a way of its own,
    1 where there are but two kinds of images.

    Args:
        features: `[N, F]`.

    Example:
        >>> similarity(torch.tensor([[1.0, 5.0], [-1.0, 5.0]])).item()
        1.0
    """
    n = len(features)
    if n < 2:
        return features.new_zeros(())
    rows = torch.nn.functional.normalize(features - features.mean(0), dim=1)
    squares = (rows @ rows.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))


def mixed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images, each with a box that comes from another one, at the same place.

    MixMix's data mixing: no image may rest on details that only make sense all together.

    Args:
        images: `[N, C, H, W]`.
        generator: on the CPU; draws the boxes (sides of 1/4 to 3/4) and whose they are.

    Example:
        >>> images = torch.arange(2.0)[:, None, None, None].expand(2, 1, 4, 4)
        >>> part = mixed(images, torch.Generator().manual_seed(0)).mean((1, 2, 3))
        >>> bool(0 < part[0] <= 9 / 16), bool(7 / 16 <= part[1] < 1)
        (True, True)
    """
    n, _, height, width = images.shape
    if n < 2:
        return images
    inside = torch.ones(n, 1, height, width, dtype=torch.bool)
    for dim, size in ((2, height), (3, width)):
        random = torch.rand(2, n, generator=generator)
        side = (size * (0.25 + 0.5 * random[0])).round().clamp(min=1)
        start = (random[1] * (size - side + 1)).floor()
        place = torch.arange(size)[None]
        line = (place >= start[:, None]) & (place < (start + side)[:, None])
        inside &= line[:, None, :, None] if dim == 2 else line[:, None, None, :]
    step = int(torch.randint(1, n, (), generator=generator))
    return torch.where(inside.to(images.device), images.roll(step, 0), images)
