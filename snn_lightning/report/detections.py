"""A picture of detected objects: the boxes of the ANN and of the SNN, beside the true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from snn_lightning.errors import SettingsError

Boxes = Sequence[Mapping[str, Tensor]]

WIDTH = 3.0
"""Inches of a picture."""

LABEL = 0.08
"""Share of a picture's height that a name needs above its box."""


def plot_detections(
    images: Sequence[Tensor],
    ann_detections: Boxes,
    snn_detections: Boxes,
    targets: Boxes | None = None,
    class_names: Sequence[str] | None = None,
    *,
    least_score: float = 0.5,
) -> Figure:
    """Draw a row for each image: the true boxes if they are given, the ANN's and the SNN's.

    A class has the same colour everywhere; a number behind its name is the score.

    Args:
        images: each `[3, H, W]` in 0...1.
        ann_detections: the ANN's: for each image `boxes [n, 4]` (x1, y1, x2, y2 in pixels), `labels
            [n]` and `scores [n]`.
        snn_detections: the SNN's.
        targets: for each the true `boxes` and `labels`.
        class_names: what the labels mean; None shows numbers.
        least_score: detections below are left out.

    Raises:
        SettingsError: there is no image, another number of detections, or a label without a name.

    Example:
        >>> import torch
        >>> box = {"boxes": torch.tensor([[1.0, 1.0, 6.0, 7.0]]), "labels": torch.tensor([1])}
        >>> found = [{**box, "scores": torch.tensor([0.9])}]
        >>> figure = plot_detections([torch.rand(3, 8, 8)], found, found, [box], ["background", "cat"])
        >>> [axes.get_title() for axes in figure.axes]
        ['target', 'ANN', 'SNN']
        >>> figure.savefig("detections.png")
    """
    columns = {} if targets is None else {"target": targets}
    columns |= {"ANN": ann_detections, "SNN": snn_detections}
    _check(images, columns, class_names)
    heights = [WIDTH * image.shape[1] / image.shape[2] for image in images]
    size = (WIDTH * len(columns), sum(heights) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(images), len(columns), squeeze=False, height_ratios=heights)
    for column, (title, found) in enumerate(columns.items()):
        grid[0, column].set_title(title)
        for axes, image, boxes in zip(grid[:, column], images, found, strict=True):
            axes.imshow(image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy())
            axes.set_axis_off()
            _draw(axes, boxes, class_names, least_score)
    return figure


def _draw(
    axes: Axes, found: Mapping[str, Tensor], class_names: Sequence[str] | None, least_score: float
) -> None:
    """Draw the boxes of an image, the best one last."""
    labels = found["labels"].tolist()
    scores = found["scores"].tolist() if "scores" in found else [None] * len(labels)
    height = axes.get_ylim()[0]
    order = sorted(range(len(labels)), key=lambda i: scores[i] or 0)
    corners = found["boxes"].tolist()
    for i in order:
        score = scores[i]
        if score is not None and score < least_score:
            continue
        left, top, right, bottom = corners[i]
        colour = colormaps["tab10"]((labels[i] - 1) % 10)
        box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.8)
        axes.add_patch(box)
        name = str(labels[i]) if class_names is None else class_names[labels[i]]
        axes.text(
            left,
            top,
            name if score is None else f"{name} {score:.2f}",
            fontsize=7,
            color="white",
            verticalalignment="bottom" if top > LABEL * height else "top",
            clip_on=True,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1},
        )


def _check(images: Sequence[Tensor], columns: Mapping[str, Boxes], class_names: Sequence[str] | None) -> None:
    if not len(images):
        raise SettingsError("there is no image to draw")
    for image in images:
        if image.ndim != 3 or image.shape[0] != 3:
            raise SettingsError(f"images must be [3, H, W], got {list(image.shape)}")
    for title, found in columns.items():
        if len(found) != len(images):
            raise SettingsError(f"{title}: there are {len(found)} sets of boxes for {len(images)} images")
        labels = {label for boxes in found for label in boxes["labels"].tolist()}
        if class_names is not None and (
            unnamed := sorted(label for label in labels if label >= len(class_names))
        ):
            raise SettingsError(
                f"{title}: label {unnamed[0]} has no name, class_names has {len(class_names)}"
            )
