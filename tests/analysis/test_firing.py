"""Firing rates of channels against counting one by one."""

import pytest
import torch
from torch import nn

from snn_lightning import IF, Burst, Signed, convert
from snn_lightning.analysis.activity import measure_activity
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.analysis.firing import measure_firing
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import Neuron

from ..toys import INPUT_SHAPES, Residual, Vector, inputs, toy


@pytest.mark.parametrize("cls", [Residual, Vector])
@pytest.mark.parametrize("neuron", [IF(), Signed(), Burst(2)], ids=str)
def test_rates_of_channels(cls: type[nn.Module], neuron: Neuron) -> None:
    x = inputs(cls, 5)
    snn = convert(toy(cls), x, 6, neuron=neuron)
    report = measure_firing(snn, x)
    for site, (name, train) in zip(report.sites, snn.spikes(x).items(), strict=True):
        v_th = snn.neurons[name].v_th.view(-1, *[1] * (train.dim() - 3))
        counts = (train / v_th).round().abs().transpose(0, 2).flatten(1)
        assert site.name == name
        assert site.channels == pytest.approx(counts.mean(1).tolist())
        assert site.rate == pytest.approx(counts.mean().item())
        assert site.highest == (2 if neuron == Burst(2) else 1)


def test_silent_and_saturated_channels_are_counted_and_shown() -> None:
    snn = convert(nn.ReLU(), torch.ones(1, 4), 20)
    report = measure_firing(snn, torch.tensor([[0.0, -1.0, 0.95, 0.9]]))
    (site,) = report.sites
    assert site.channels == (0, 0, pytest.approx(0.95), pytest.approx(0.9))
    assert (site.silent, site.saturated) == (2, 1)
    assert str(report).splitlines()[2].split() == ["relu", "0.463", "0.000", "0.950", "4", "2", "1"]


def test_one_simulation_gives_what_two_give() -> None:
    x = inputs(Residual, 20)
    snn = convert(toy(Residual), x, 4)
    activity = measure_activity(snn, x)
    assert activity.firing == measure_firing(snn, x)
    assert activity.energy == measure_energy(snn, x)


def test_the_energy_of_the_stages_adds_up() -> None:
    report = measure_energy(convert(toy(Residual), inputs(Residual), 4), inputs(Residual))
    assert sum(map(report.model.snn, report.stages)) == pytest.approx(report.energy)
    assert sum(map(report.model.ann, report.stages)) == pytest.approx(report.ann_energy)
    assert sum(map(report.model.skipping, report.stages)) == pytest.approx(report.skipping_energy)
    second = report.stages[1]
    assert report.model.snn(second) == 0.9 * second.accumulates
    assert report.model.ann(second) == 4.6 * second.ann


@pytest.mark.parametrize("measure", [measure_firing, measure_activity])
def test_without_images_it_is_refused(measure: object) -> None:
    assert callable(measure)
    snn = convert(nn.ReLU(), torch.ones(1, 4), 2)
    with pytest.raises(SettingsError, match="counted on at least one"):
        measure(snn, torch.ones(0, *INPUT_SHAPES[Vector]))
