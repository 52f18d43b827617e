"""What is drawn over time are the numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from snn_lightning import convert
from snn_lightning.analysis.potentials import membrane_potentials
from snn_lightning.errors import SettingsError
from snn_lightning.report import plot_potentials, plot_spikes


def test_a_line_for_each_spike() -> None:
    torch.manual_seed(0)
    trains = {"a": (torch.rand(5, 2, 3) > 0.5) * 0.7, "b": (torch.rand(5, 2, 2, 2) > 0.5).float()}
    (axes,) = plot_spikes(trains, image=1).axes
    lines = [segment for spikes in axes.collections for segment in spikes.get_segments()]
    drawn = sorted(line.mean(0).tolist() for line in lines)
    both = torch.cat([train[:, 1].flatten(1) for train in trains.values()], 1)
    steps, places = both.numpy().nonzero()
    np.testing.assert_allclose(drawn, sorted(zip(steps + 1.0, places, strict=True)))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert list(axes.get_yticks()) == [1.0, 4.5]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time step", "neurons by site")
    assert axes.get_xlim() == (0.4, 5.6)


def test_spikes_that_are_taken_back_are_crosses() -> None:
    (axes,) = plot_spikes({"a": torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1)}).axes
    (line,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([2], [0])
    assert len(axes.collections[0].get_segments()) == 1


def test_some_neurons_of_many() -> None:
    train = torch.zeros(2, 1, 101)
    train[0, 0, [0, 50, 51, 100]] = 1.0
    (axes,) = plot_spikes({"a": train}, neurons=3).axes
    places = [segment[:, 1].mean() for segment in axes.collections[0].get_segments()]
    assert places == pytest.approx([0, 1, 2])
    assert axes.get_ylim() == (2.5, -0.5)


def test_potentials_go_up_and_down() -> None:
    snn = convert(nn.ReLU(), torch.tensor([[1.0, 2.0]]), timesteps=3)
    traces = membrane_potentials(snn, torch.tensor([[0.75, 0.25]]), "relu", neurons=[0, 1])
    figure = plot_potentials(traces)
    first, second = figure.axes
    potential, threshold, spikes = first.lines
    assert list(potential.get_xdata()) == [0, 1, 1, 2, 2, 3, 3]
    assert list(potential.get_ydata()) == [0.5, 1.25, 0.25, 1.0, 0.0, 0.75, 0.75]
    assert list(threshold.get_ydata()) == [1.0, 1.0]
    assert (list(spikes.get_xdata()), list(spikes.get_ydata())) == ([1, 2], [1.25, 1.0])
    assert list(second.lines[1].get_ydata()) == [2.0, 2.0]
    np.testing.assert_array_equal(second.lines[2].get_xdata(), [])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["neuron 0 of relu", "neuron 1 of relu"]
    assert figure.get_supylabel() == "membrane potential (activation units)"
    assert second.get_xlabel() == "time step"


def test_bad_input() -> None:
    with pytest.raises(SettingsError, match="plot_spikes needs the spike train of at least one site"):
        plot_spikes({})
    train = torch.ones(2, 3, 4)
    with pytest.raises(SettingsError, match="image must be a whole number from 0 to 2, got 3"):
        plot_spikes({"a": train}, image=3)
    with pytest.raises(SettingsError, match="neurons must be a whole number of at least 1, got 0"):
        plot_spikes({"a": train}, neurons=0)
