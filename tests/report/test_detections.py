"""The picture of boxes: what is in it, and what is refused."""

from pathlib import Path

import pytest
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.report.detections import plot_detections

NAMES = ["background", "cat", "dog"]
IMAGES = [torch.rand(3, 20, 30), torch.rand(3, 24, 20)]


def boxes(labels: list[int], scores: list[float] | None = None) -> dict[str, Tensor]:
    corners = torch.tensor([[2.0 * i, 3.0, 2.0 * i + 8, 9.0] for i in range(len(labels))]).reshape(-1, 4)
    found = {"boxes": corners, "labels": torch.tensor(labels, dtype=torch.int64)}
    return found if scores is None else {**found, "scores": torch.tensor(scores)}


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def rectangles(axes) -> list[tuple[float, ...]]:
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in found]


def test_a_row_for_each_image_and_a_column_for_each_network(tmp_path: Path) -> None:
    ann = [boxes([1, 2], [0.6, 0.9]), boxes([2], [0.8])]
    snn = [boxes([1], [0.75]), boxes([], [])]
    figure = plot_detections(IMAGES, ann, snn, [boxes([1, 2]), boxes([2])], NAMES)
    assert [axes.get_title() for axes in figure.axes] == ["target", "ANN", "SNN", "", "", ""]
    assert [texts(axes) for axes in figure.axes[:3]] == [
        ["cat", "dog"],
        ["cat 0.60", "dog 0.90"],
        ["cat 0.75"],
    ]
    assert [texts(axes) for axes in figure.axes[3:]] == [["dog"], ["dog 0.80"], []]
    assert rectangles(figure.axes[1]) == [(0, 3, 8, 6), (2, 3, 8, 6)]
    figure.savefig(tmp_path / "detections.png")
    assert (tmp_path / "detections.png").stat().st_size > 1000


def test_unlikely_detections_are_left_out_and_targets_and_names_may_be() -> None:
    ann = [boxes([1, 2], [0.2, 0.6])]
    figure = plot_detections(IMAGES[:1], ann, ann, least_score=0.3)
    assert [axes.get_title() for axes in figure.axes] == ["ANN", "SNN"]
    assert texts(figure.axes[0]) == ["2 0.60"]
    assert len(texts(plot_detections(IMAGES[:1], ann, ann, least_score=0.1).axes[0])) == 2


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([], [], "there is no image to draw"),
        (IMAGES, [1], "ANN: there are 1 sets of boxes for 2 images"),
        (IMAGES[:1], [3], "ANN: label 3 has no name, class_names has 3"),
        ([torch.rand(1, 4, 4)], [1], r"images must be \[3, H, W\], got \[1, 4, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused(images: list[Tensor], labels: list[int], message: str) -> None:
    found = [boxes(labels, [0.9] * len(labels))]
    with pytest.raises(SettingsError, match=message):
        plot_detections(images, found, found, None, NAMES)
