"""A picture of segmented images: what the ANN and the SNN see in them, beside the truth."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from snn_lightning.errors import SettingsError, few

IGNORED = 255
BACKGROUND, WHITE = (0.88, 0.88, 0.88), (1.0, 1.0, 1.0)


def plot_masks(
    images: Tensor, ann: Tensor, snn: Tensor, targets: Tensor, class_names: Sequence[str]
) -> Figure:
    """Draw a row for each image: itself, the true classes of its pixels, the ANN's and the SNN's.

    Class 0, the background, is grey; pixels that don't count (255) are white. The legend has the classes that
    occur.

    Args:
        images: `[N, 3, H, W]`; each is stretched to the whole range of brightness, so they may be normalised.
        ann: the classes that the ANN finds, `[N, H, W]`, whole numbers; `logits.argmax(1)`.
        snn: those that the SNN finds.
        targets: the true ones.
        class_names: of the classes.

    Raises:
        SettingsError: shapes that don't fit together, or a class without a name.

    Example:
        >>> images, classes = torch.rand(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
        >>> figure = plot_masks(images, classes, classes, classes, ["background", "cat", "dog"])
        >>> [axes.get_title() for axes in figure.axes[:4]]
        ['image', 'target', 'ANN', 'SNN']
        >>> figure.savefig("masks.png")
    """
    masks = {"target": targets, "ANN": ann, "SNN": snn}
    _check(images, masks, class_names)
    colours = _colours(len(class_names))
    count = len(images)
    figure = Figure(figsize=(8.4, 2.1 * count + 0.5), layout="constrained")
    grid = figure.subplots(count, 4, squeeze=False)
    for row, image in zip(grid, images, strict=True):
        row[0].imshow(_stretched(image))
    for column, (title, classes) in enumerate(masks.items(), 1):
        for row, picture in zip(grid, colours[classes.cpu().numpy()], strict=True):
            row[column].imshow(picture, interpolation="nearest")
        grid[0, column].set_title(title)
    grid[0, 0].set_title("image")
    for axes in grid.flat:
        axes.set_axis_off()
    seen = [label for label in torch.cat([*masks.values()]).unique().tolist() if label != IGNORED]
    handles = [Patch(facecolor=tuple(colours[label]), label=class_names[label]) for label in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _colours(count: int) -> np.ndarray:
    """Return a colour for each value of a byte, `[256, 3]`."""
    colours = np.ones((IGNORED + 1, 3)) * WHITE
    colours[0] = BACKGROUND
    if count <= 11:
        colours[1:count] = colormaps["tab10"].colors[: count - 1]  # type: ignore[attr-defined]
    else:
        colours[1:count] = colormaps["turbo"](np.linspace(0, 1, count - 1))[:, :3]
    return colours


def _stretched(image: Tensor) -> np.ndarray:
    image = image.detach().cpu().float()
    low, high = image.min(), image.max()
    return ((image - low) / (high - low).clamp(min=1e-12)).permute(1, 2, 0).numpy()


def _check(images: Tensor, masks: dict[str, Tensor], class_names: Sequence[str]) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise SettingsError(f"images must be [N, 3, H, W], got {list(images.shape)}")
    for name, classes in masks.items():
        if classes.shape != (images.shape[0], *images.shape[2:]) or classes.is_floating_point():
            raise SettingsError(
                f"{name}: the classes must be whole numbers [N, H, W] for images {list(images.shape)}, got "
                f"{list(classes.shape)} of {classes.dtype}; of logits [N, K, H, W] take argmax(1)"
            )
        unnamed = classes[((classes < 0) | (classes >= len(class_names))) & (classes != IGNORED)]
        if len(unnamed):
            raise SettingsError(
                f"{name}: there are {len(class_names)} class names, and no name for the classes "
                f"{few([str(label) for label in unnamed.unique().tolist()])}"
            )
