"""Potentials over time, against the step-by-step simulation."""

import pytest
import torch
from torch import nn

from snn_lightning import IF, LCP, Burst, Signed, Switch, calibrate, convert
from snn_lightning.analysis.potentials import membrane_potentials
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import Neuron

from ..toys import Residual, inputs, toy


def test_a_neuron_by_hand() -> None:
    snn = convert(nn.ReLU(), torch.tensor([[1.0, 1.0]]), timesteps=3)
    traces = membrane_potentials(snn, torch.tensor([[0.75, 0.25]]), "relu", neurons=[1, 0])
    assert (traces.site, traces.neurons) == ("relu", (1, 0))
    assert traces.start.tolist() == [0.5, 0.5]
    assert traces.threshold.tolist() == [1.0, 1.0]
    assert traces.before.tolist() == [[0.75, 1.25], [1.0, 1.0], [0.25, 0.75]]
    assert traces.after.tolist() == [[0.75, 0.25], [0.0, 0.0], [0.25, 0.75]]
    assert traces.spikes.tolist() == [[0, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize("neuron", [IF(), Burst(2)], ids=str)
@pytest.mark.parametrize("rounding", ["potential", "bias"])
def test_the_state_of_the_simulation(neuron: Neuron, rounding: str) -> None:
    ann, images = toy(Residual), inputs(Residual, 8)
    snn = calibrate(ann, [images], LCP(6, neuron=neuron, rounding=rounding), progress=False)
    snn.rows = 4  # several parts of time
    site, image = snn.network.sites[2], images[:1]
    traces = membrane_potentials(snn, image, site, neurons=range(20))
    train = snn.spikes(image)[site][:, 0].flatten(1)[:, :20]
    torch.testing.assert_close(traces.spikes * traces.threshold, train)
    state = snn.initial_state(image)
    for after in traces.after:
        _, state = snn.step(state)
        torch.testing.assert_close(state.units[site][0].flatten()[:20], after, rtol=1e-4, atol=1e-5)


def test_spikes_that_are_taken_back() -> None:
    ann, images = toy(Residual), inputs(Residual, 8)
    snn = convert(ann, images, 8, neuron=Signed())
    site = snn.network.sites[2]
    traces = membrane_potentials(snn, images[:1], site, neurons=range(200))
    train = snn.spikes(images[:1])[site][:, 0].flatten(1)[:, :200]
    assert (train < 0).any()
    torch.testing.assert_close(traces.spikes * traces.threshold, train)


def test_bad_input() -> None:
    image = torch.tensor([[1.0, 1.0]])
    snn = convert(nn.ReLU(), image, timesteps=3)
    with pytest.raises(SettingsError, match=r"takes one image \[1, \.\.\.\], got 2"):
        membrane_potentials(snn, image.repeat(2, 1), "relu")
    with pytest.raises(SettingsError, match="unknown site: 'rel'; did you mean 'relu'"):
        membrane_potentials(snn, image, "rel")
    with pytest.raises(SettingsError, match=r"neurons must be whole numbers from 0 to 1, .* got \[2\]"):
        membrane_potentials(snn, image, "relu")
    with pytest.raises(SettingsError, match="got none"):
        membrane_potentials(snn, image, "relu", neurons=[])
    with pytest.raises(SettingsError, match="no membrane potential at every time step"):
        membrane_potentials(convert(nn.ReLU(), image, 3, neuron=Switch()), image, "relu")
