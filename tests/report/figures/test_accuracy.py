"""What is drawn of accuracy are the numbers."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from snn_lightning.errors import SettingsError
from snn_lightning.report import (
    plot_accuracy,
    plot_accuracy_against_energy,
    plot_accuracy_against_images,
    plot_accuracy_over_time,
)
from tests.report.compare.made import panels_of


def runs(model: str = "vgg16", pipelines: tuple[str, ...] = ("acp", "lcp")) -> list[dict[str, Any]]:
    return [
        {
            "model": model,
            "data": "digits",
            "pipeline": pipeline,
            "timesteps": t,
            "seed": seed,
            "ann_accuracy": 0.9,
            "snn_accuracy": 0.5 + t / 100 + seed / 10,
            "energy_ratio": t / 50 + seed / 100,
        }
        for pipeline in pipelines
        for t in (8, 4)
        for seed in (0, 1)
    ]


def bars(axes: Axes, number: int) -> list[Any]:
    """The segments of a line's error bars, in one direction after the other."""
    return [bar.get_segments() for bar in axes.containers[number].lines[2]]


def test_means_and_deviations_over_seeds() -> None:
    figure = plot_accuracy(panels_of(*runs()))
    (axes,) = figure.axes
    for container in axes.containers:
        line = container.lines[0]
        np.testing.assert_array_equal(line.get_xdata(), [4, 8])
        assert list(line.get_ydata()) == pytest.approx([59, 63])
    deviation = 10 / 2**0.5
    (vertical,) = bars(axes, 0)
    np.testing.assert_allclose(vertical[0], [[4, 59 - deviation], [4, 59 + deviation]])
    (ann,) = [line for line in axes.lines if line.get_label() == "ANN"]
    assert list(ann.get_ydata()) == [90.0, 90.0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "8"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time steps T", "accuracy (%)")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ANN", "acp", "lcp"]


def test_accuracy_against_energy() -> None:
    figure = plot_accuracy_against_energy(panels_of(*runs()))
    (axes,) = figure.axes
    line = axes.containers[0].lines[0]
    assert list(line.get_xdata()) == pytest.approx([8.5, 16.5])
    assert list(line.get_ydata()) == pytest.approx([59, 63])
    horizontal, _ = bars(axes, 0)
    deviation = 1 / 2**0.5
    np.testing.assert_allclose(horizontal[0], [[8.5 - deviation, 59], [8.5 + deviation, 59]])
    assert [text.get_text() for text in axes.texts] == ["T=4", "T=8"] * 2
    assert axes.get_xlabel() == "energy of an inference (% of the ANN's)"


def test_a_pipeline_has_one_colour_in_all_panels() -> None:
    figure = plot_accuracy(panels_of(*runs("resnet20", ("lcp",)), *runs("vgg16")))
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["resnet20 on digits", "vgg16 on digits"]
    assert first.containers[0].lines[0].get_color() == second.containers[1].lines[0].get_color()
    assert second.containers[0].lines[0].get_color() != second.containers[1].lines[0].get_color()


def test_an_ann_that_was_not_tested() -> None:
    (axes,) = plot_accuracy(panels_of(*({**run, "ann_accuracy": None} for run in runs()))).axes
    assert not [line for line in axes.lines if line.get_label() == "ANN"]


def test_another_score_is_drawn() -> None:
    detector = {"scores": ["map50"], "snn_accuracy": None, "snn_map50": 0.25}
    (axes,) = plot_accuracy(panels_of(*({**run, **detector} for run in runs()))).axes
    assert axes.get_ylabel() == "mAP50 (%)"
    assert list(axes.containers[0].lines[0].get_ydata()) == [25, 25]


def test_bad_input() -> None:
    for draw in (plot_accuracy, plot_accuracy_against_energy):
        with pytest.raises(SettingsError, match="There are no results to draw"):
            draw([])
    for compared in ([], panels_of(*runs()), panels_of(*of_images(64))):
        with pytest.raises(SettingsError, match=r"that differ in data\.calibration_images"):
            plot_accuracy_against_images(compared)
    with pytest.raises(SettingsError, match="The energy of acp at T=4 for vgg16 on digits is missing"):
        plot_accuracy_against_energy(panels_of(*({**run, "energy_ratio": None} for run in runs())))


def of_images(*numbers: int, model: str = "vgg16", t: int = 4) -> list[dict[str, Any]]:
    config = [{"data": {"calibration_images": n}} for n in numbers]
    head = {"model": model, "data": "digits", "timesteps": t, "ann_accuracy": 0.9}
    return [
        {**head, "pipeline": pipeline, "seed": seed, "snn_accuracy": n / 1024 + seed / 10, "config": one}
        for pipeline in ("acp", "lcp")
        for n, one in zip(numbers, config, strict=True)
        for seed in (0, 1)
    ]


def test_accuracy_against_calibration_images() -> None:
    figure = plot_accuracy_against_images(panels_of(*of_images(512, 64), *of_images(64, model="resnet20")))
    (axes,) = figure.axes  # of the model whose runs differ
    line = axes.containers[0].lines[0]
    assert list(line.get_xdata()) == [64, 512]
    assert list(line.get_ydata()) == pytest.approx([11.25, 55])
    (vertical,) = bars(axes, 0)
    deviation = 10 / 2**0.5
    np.testing.assert_allclose(vertical[1], [[512, 55 - deviation], [512, 55 + deviation]])
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "calibration images")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "512"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ANN", "acp", "lcp"]


def test_each_t_has_a_line_of_its_own() -> None:
    figure = plot_accuracy_against_images(panels_of(*of_images(64, 128), *of_images(64, 128, t=8)))
    (legend,) = figure.legends
    names = ["ANN", "acp, T=4", "lcp, T=4", "acp, T=8", "lcp, T=8"]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_accuracy_over_time() -> None:
    (axes,) = plot_accuracy_over_time({"lcp": [0.25, 0.5], "acp": [0.5]}, ann=0.75, title="mIoU").axes
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert drawn["lcp"] == ([1, 2], [25.0, 50.0])
    assert drawn["acp"] == ([1], [50.0])
    assert drawn["ANN"][1] == [75.0, 75.0]
    assert axes.get_ylabel() == "mIoU (%)"


@pytest.mark.parametrize("curves", [{}, {"lcp": []}])
def test_no_accuracy_over_time(curves: dict[str, list[float]]) -> None:
    with pytest.raises(SettingsError, match="needs at least one SNN, and of each at least one time step"):
        plot_accuracy_over_time(curves)
