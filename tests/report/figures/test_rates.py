"""What is drawn of firing rates are the numbers."""

import pytest
import torch
from torch import nn

from snn_lightning import convert
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.errors import SettingsError
from snn_lightning.report import plot_firing_rates


def test_bars_are_the_rates() -> None:
    rates = {"baseline": {"a": 0.1, "b": 0.2}, "lcp": {"a": 0.3, "b": 0.05}}
    (axes,) = plot_firing_rates(rates).axes
    assert [bar.get_height() for bar in axes.patches] == [0.1, 0.2, 0.3, 0.05]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert centres == pytest.approx([-0.2, 0.8, 0.2, 1.2])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["baseline", "lcp"]
    assert "spikes a neuron and time step" in axes.get_ylabel()
    assert axes.get_xlabel() == "site"


def test_one_snn_needs_no_legend() -> None:
    (axes,) = plot_firing_rates({"lcp": {"a": 0.1}}).axes
    assert axes.get_legend() is None


def test_rates_of_a_network() -> None:
    snn = convert(nn.Sequential(nn.ReLU(), nn.Linear(2, 1)), torch.tensor([[1.0, 1.0]]), timesteps=4)
    # 2 and 3 spikes of 4.
    assert measure_energy(snn, torch.tensor([[0.5, 0.75]])).firing_rates == {"_0": 5 / 8}


def test_bad_input() -> None:
    for nothing in ({}, {"lcp": {}}):
        with pytest.raises(SettingsError, match="plot_firing_rates needs at least one SNN"):
            plot_firing_rates(nothing)
    with pytest.raises(SettingsError, match="The sites of 'lcp' are others than those of 'baseline'"):
        plot_firing_rates({"baseline": {"a": 0.1}, "lcp": {"b": 0.1}})
