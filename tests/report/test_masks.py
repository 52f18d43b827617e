import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from snn_lightning.errors import SettingsError
from snn_lightning.report.masks import BACKGROUND, WHITE, plot_masks

NAMES = ["background", "cat", "dog"]


def pictures(figure: Figure, row: int) -> list[np.ndarray]:
    """What is drawn in a row, `[H, W, 3]` each."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes[4 * row : 4 * row + 4]]


def test_what_is_drawn() -> None:
    images = torch.arange(24.0).reshape(2, 3, 2, 2) - 5
    targets = torch.tensor([[[0, 1], [1, 255]], [[0, 0], [0, 0]]])
    ann = torch.tensor([[[0, 1], [2, 1]], [[0, 0], [0, 0]]])
    snn = torch.zeros(2, 2, 2, dtype=torch.int64)
    figure = plot_masks(images, ann, snn, targets, NAMES)
    assert len(figure.axes) == 8
    image, target, of_ann, of_snn = pictures(figure, 0)
    assert image == pytest.approx(np.arange(12).reshape(3, 2, 2).transpose(1, 2, 0) / 11)
    cat, dog = target[0, 1], of_ann[1, 0]
    assert len({tuple(colour) for colour in (cat, dog, BACKGROUND, WHITE)}) == 4
    assert target == pytest.approx(np.array([[BACKGROUND, cat], [cat, WHITE]]))
    assert of_ann == pytest.approx(np.array([[BACKGROUND, cat], [dog, cat]]))
    assert of_snn == pytest.approx(np.full((2, 2, 3), BACKGROUND))
    assert pictures(figure, 1)[1] == pytest.approx(np.full((2, 2, 3), BACKGROUND))
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == NAMES
    assert [patch.get_facecolor()[:3] for patch in legend.get_patches()] == [
        BACKGROUND,
        tuple(cat),
        tuple(dog),
    ]


def test_only_classes_that_occur_are_in_the_legend_and_an_even_image_is_black() -> None:
    names = [f"class {label}" for label in range(81)]
    classes = torch.full((1, 2, 2), 80)
    figure = plot_masks(torch.ones(1, 3, 2, 2), classes, classes, classes, names)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 80"]
    assert pictures(figure, 0)[0].max() == 0


def test_bad_input() -> None:
    images, classes = torch.rand(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(SettingsError, match=r"images must be \[N, 3, H, W\], got \[1, 1, 2, 2\]"):
        plot_masks(images[:, :1], classes, classes, classes, NAMES)
    with pytest.raises(SettingsError, match=r"ANN: .* of logits \[N, K, H, W\] take argmax\(1\)"):
        plot_masks(images, torch.rand(1, 3, 2, 2), classes, classes, NAMES)
    with pytest.raises(SettingsError, match="SNN: there are 3 class names, and no name for the classes 3"):
        plot_masks(images, classes, classes + 3, classes, NAMES)
