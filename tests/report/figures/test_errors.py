"""What is drawn of errors are the numbers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from snn_lightning.errors import SettingsError
from snn_lightning.report import plot_channel_errors, plot_site_errors, plot_threshold_errors, save_figure
from snn_lightning.thresholds.errors import threshold_errors

LONG = [f"backbone_stages_{number}_residual_2" for number in range(36)]


def segments(axes: Axes) -> list[np.ndarray]:
    """The ends `[sites, 2, 2]` of lower and upper whiskers, their two caps, and the medians."""
    return [np.array(lines.get_segments()) for lines in axes.collections]


def test_boxes_are_quartiles_and_whiskers_the_5th_and_95th_percentile() -> None:
    torch.manual_seed(0)
    data = {"relu": torch.rand(41), "relu_1": torch.rand(7)}
    (axes,) = plot_channel_errors({"lcp": data}).axes
    lower, upper, low, high, median = segments(axes)
    assert axes.get_ylim()[0] < lower[..., 1].min()
    assert axes.get_ylim()[1] > upper[..., 1].max()
    for site, (values, box) in enumerate(zip(data.values(), axes.patches, strict=True)):
        percentiles = np.percentile(values.double().numpy(), [5, 25, 50, 75, 95])
        np.testing.assert_allclose(lower[site, :, 1], percentiles[:2])
        np.testing.assert_allclose(upper[site, :, 1], percentiles[3:])
        for ends, percentile in ((low, 0), (median, 2), (high, 4)):
            np.testing.assert_allclose(ends[site, :, 1], percentiles[percentile])
            np.testing.assert_allclose(ends[site, :, 0].mean(), site + 1)
        np.testing.assert_allclose([box.get_y(), box.get_y() + box.get_height()], percentiles[[1, 3]])


def test_means_and_a_linear_axis() -> None:
    data = {"relu": torch.tensor([0.1, 0.2, 0.9]), "relu_1": torch.tensor([0.5])}
    (axes,) = plot_channel_errors({"lcp": data}, log=False).axes
    (means,) = [line.get_ydata() for line in axes.lines if line.get_marker() == "^"]
    np.testing.assert_allclose(means, [0.4, 0.5], rtol=1e-6)
    assert axes.get_yscale() == "linear"


def test_a_panel_for_each_snn_on_the_same_axes() -> None:
    data = {
        "baseline": {"a": torch.rand(4), "b": torch.rand(4)},
        "lcp": {"a": torch.rand(4), "b": torch.rand(4)},
    }
    figure = plot_channel_errors(data)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["baseline", "lcp"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["a", "b"]
    assert figure.axes[1].get_xlabel() == "site"
    assert all(axes.get_ylabel() for axes in figure.axes)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "median",
        "mean",
        "5 to 95 %",
    ]


def test_long_names_of_many_sites_stay_inside_and_apart(tmp_path: object) -> None:
    figure = plot_channel_errors({"lcp": {name: torch.rand(4) + 0.1 for name in LONG}})
    save_figure(figure, f"{tmp_path}/deep")
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert all(box.y0 >= 0 for box in boxes)
    assert figure.axes[0].get_window_extent().height > 150


def test_channels_without_an_error() -> None:
    (axes,) = plot_channel_errors({"lcp": {"a": torch.zeros(2), "b": torch.tensor([0.1, 0.2])}}).axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] > 0


def test_curves_and_choices() -> None:
    torch.manual_seed(0)
    found = threshold_errors(torch.rand(64, 3).square() * 5, [2, 8, 32])
    left, right = plot_threshold_errors(found).axes
    curves = {line.get_label(): line for line in left.lines}
    for t in (2, 8, 32):
        np.testing.assert_array_equal(curves[f"T={t}"].get_xdata(), found.thresholds.numpy())
        np.testing.assert_array_equal(curves[f"T={t}"].get_ydata(), found.errors[t].numpy())
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in left.lines if len(line.get_xdata()) == 1]
    assert points == [(found.mmse[t], pytest.approx(found.errors[t].min().item())) for t in (2, 8, 32)]
    assert [text.get_text() for text in left.texts] == ["T=2", "T=8", "T=32"]
    assert [line.get_xdata()[0] for line in left.lines[-2:]] == [found.maximum, found.percentile]
    lines = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert lines["least error (MMSE)"] == [found.mmse[t] for t in (2, 8, 32)]
    assert lines["maximum"] == [found.maximum] * 2
    assert lines["99.99th percentile"] == [found.percentile] * 2
    assert [label.get_text() for label in right.get_xticklabels()] == ["2", "8", "32"]
    assert (left.get_xlabel(), right.get_ylabel()) == ("threshold (activation units)",) * 2
    assert "activation units²" in left.get_ylabel()


def test_bad_input() -> None:
    for nothing in ({}, {"lcp": {}}):
        with pytest.raises(SettingsError, match="plot_channel_errors needs at least one SNN"):
            plot_channel_errors(nothing)
    with pytest.raises(SettingsError, match="The sites of 'lcp' are others than those of 'baseline'"):
        plot_channel_errors({"baseline": {"a": torch.rand(2)}, "lcp": {"b": torch.rand(2)}})


@pytest.mark.parametrize("values", [[], [0.1, float("nan")], [float("inf")]])
def test_errors_that_are_no_numbers_are_named(values: list[float]) -> None:
    with pytest.raises(SettingsError, match=r"errors of 'relu_1' of 'lcp' must be one or more finite"):
        plot_channel_errors({"lcp": {"relu": torch.ones(2), "relu_1": torch.tensor(values)}})


def test_errors_of_sites_are_lines_side_by_side() -> None:
    figure = plot_site_errors({"before": {"a": 0.5, "b": 0.25}, "after": {"a": 0.1, "b": 0.05}})
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.25], [0.1, 0.05]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["before", "after"]
    assert plot_site_errors({"lcp": {"a": 0.5}}).axes[0].get_legend() is None


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ({}, "plot_site_errors needs at least one SNN with at least one site"),
        ({"lcp": {}}, "plot_site_errors needs at least one SNN with at least one site"),
        ({"lcp": {"a": 0.1}, "acp": {"b": 0.1}}, "The sites of 'acp' are others than those of 'lcp'"),
        ({"lcp": {"a": float("nan")}}, "The error of 'a' of 'lcp' must be a finite number, got nan"),
    ],
)
def test_errors_of_sites_that_cannot_be_drawn(errors: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plot_site_errors(errors)
