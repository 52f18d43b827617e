"""What moves and recolours the images of a batch, each by its own numbers; nothing here is drawn."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def mirrored(images: Tensor, which: Tensor) -> Tensor:
    """Return the images, some of them mirrored left to right.

    Args:
        images: `[N, C, H, W]`.
        which: whether each is mirrored, `[N]`.

    Example:
        >>> mirrored(torch.tensor([[[[1, 2]]], [[[1, 2]]]]), torch.tensor([False, True])).flatten().tolist()
        [1, 2, 2, 1]
    """
    return torch.where(which[:, None, None, None], images.flip(3), images)


def windows(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut a window out of each image, all of one size.

    Args:
        images: `[N, C, H, W]`.
        top: first row of each window, `[N]`.
        left: first column of each window, `[N]`.
        height: rows of a window.
        width: columns of a window.

    Returns:
        The windows, `[N, C, height, width]`.

    Example:
        >>> windows(torch.arange(6).view(1, 1, 2, 3), torch.tensor([1]), torch.tensor([1]), 1, 2).tolist()
        [[[[4, 5]]]]
    """
    device = images.device
    rows = (top[:, None] + torch.arange(height, device=device))[:, :, None]
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, :]
    numbers = torch.arange(len(images), device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[numbers, rows, columns].permute(0, 3, 1, 2).contiguous()


def zoomed(images: Tensor, side: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Enlarge a window of each image, of the image's proportions, to the image's size; bilinear.

    Args:
        images: `[N, C, H, W]`.
        side: of each window, as a part of the image's, in (0, 1], `[N]`.
        down: where it lies, from 0 (at the top) to 1 (at the bottom), `[N]`.
        right: where it lies, from 0 (at the left) to 1 (at the right), `[N]`.

    Returns:
        The windows, `[N, C, H, W]`.

    Example:
        >>> image, one, zero = torch.tensor([[[[0.0, 1, 2, 3]]]]), torch.ones(1), torch.zeros(1)
        >>> zoomed(image, side=one / 2, down=zero, right=one).flatten().tolist()
        [1.75, 2.25, 2.75, 3.0]
    """
    # Places in an image go from -1 to 1: a window's centre is as far from theirs as its side leaves room.
    room, none = 1 - side, torch.zeros_like(side)
    across = torch.stack([side, none, room * (2 * right - 1)], 1)
    along = torch.stack([none, side, room * (2 * down - 1)], 1)
    grid = affine_grid(torch.stack([across, along], 1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def recoloured(images: Tensor, gain: Tensor, contrast: Tensor) -> Tensor:
    """Change brightness and contrast of images whose normalisation is not known.

    `y = black + gain (x - black)`, then `mean(y) + contrast (y - mean(y))`; the darkest value of an
    image's channel is taken for black, and the mean is that of the whole image.

    Args:
        images: `[N, C, H, W]`.
        gain: of each channel, `[N, C]`.
        contrast: `[N]`.

    Example:
        >>> recoloured(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[2.0]]), torch.tensor([0.5])).tolist()
        [[[[2.0, 4.0]]]]
    """
    black = images.amin((2, 3), keepdim=True)
    brighter = black + gain[:, :, None, None] * (images - black)
    mean = brighter.mean((1, 2, 3), keepdim=True)
    return mean + contrast[:, None, None, None] * (brighter - mean)
