"""Rescaling the weights to {0, 1} spikes (PC eq. 5) changes nothing but the spikes' size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import (
    MMSE,
    Max,
    SpikingModel,
    convert,
    load_converted,
    rescale_to_unit_spikes,
    save_converted,
    sensitivity,
)
from snn_lightning.analysis.channels import channel_errors
from snn_lightning.analysis.mismatch import measure_mismatch
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import Readout
from tests.toys import TOYS, MaxPooled, Vector, inputs, toy


def calibrated(ann: nn.Module, x: Tensor, **settings: Any) -> SpikingModel:
    """Convert, and set potentials and biases as a calibration would."""
    snn = convert(ann.double(), x.double(), 6, **settings)
    generator = torch.Generator().manual_seed(0)
    for name, unit in snn.units.items():
        if isinstance(unit, Readout):
            unit.bias = torch.tensor(0.123, dtype=torch.float64)
        elif name in snn.neurons:
            train = snn.spikes(x.double())[name]
            unit.v_init = unit.v_init * torch.rand(train.shape[2:3], generator=generator).double() * 2
            unit.bias = unit.bias + 0.01 * torch.randn(train.shape[2:3], generator=generator).double()
    return snn


def assert_same(snn: SpikingModel, x: Tensor) -> SpikingModel:
    before, output = snn.spikes(x), snn.running_mean(x)
    state = {name: value.clone() for name, value in snn.state_dict().items()}
    unit = rescale_to_unit_spikes(snn)
    after = unit.spikes(x)
    assert list(after) == list(before)
    for name, train in before.items():
        assert torch.equal(train > 0, after[name] > 0)
        assert set(after[name].unique().tolist()) <= {0.0, 1.0}
        assert (unit.neurons[name].v_th == 1).all()
    assert torch.allclose(unit.running_mean(x), output, rtol=1e-9, atol=1e-11)
    assert all(torch.equal(value, state[name]) for name, value in snn.state_dict().items())
    return unit


@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("cls", TOYS)
def test_the_spikes_and_the_output_are_the_same(cls: type[nn.Module], granularity: str) -> None:
    x = inputs(cls, 4)
    assert_same(calibrated(toy(cls), x, threshold=MMSE(granularity)), x.double())


@pytest.mark.parametrize("rounding", ["bias", "floor"])
def test_any_rounding_will_do(rounding: str) -> None:
    for cls in TOYS[:3]:
        x = inputs(cls, 4)
        assert_same(calibrated(toy(cls), x, rounding=rounding), x.double())


def test_potentials_of_single_neurons_are_divided_too() -> None:
    x = inputs(MaxPooled, 3)
    snn = calibrated(toy(MaxPooled), x)
    first = next(iter(snn.neurons.values()))
    first.v_init = torch.rand(8, 8, 8, dtype=torch.float64) * first.v_th.view(-1, 1, 1)
    assert_same(snn, x.double())


@pytest.mark.parametrize("mode", ["gated", "average", "keep"])
def test_every_max_pooling_will_do(mode: str) -> None:
    x = inputs(MaxPooled, 4)
    assert_same(calibrated(toy(MaxPooled), x, max_pooling=mode), x.double())


def test_converted_average_pooling_will_do() -> None:
    for cls in TOYS[:2]:
        x = inputs(cls, 4)
        assert_same(calibrated(toy(cls), x, convert_avg_pool=True), x.double())


def test_a_chain_by_hand() -> None:
    # W2 := W2 v1 / v2, b2 := b2 / v2; the readout takes v2.
    ann = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    numbers = {0: (2.0, 1.0), 2: (3.0, 0.5), 4: (-1.0, 4.0)}
    with torch.no_grad():
        for index, (weight, bias) in numbers.items():
            ann[index].weight.fill_(weight)
            ann[index].bias.fill_(bias)
    # Activations 2 + 1 = 3 and 9 + 0.5 = 9.5 are the thresholds.
    unit = rescale_to_unit_spikes(convert(ann, torch.ones(1, 1), 4, threshold=Max()))
    found = [
        (m.weight.item(), m.bias.item()) for m in unit.network.operators.values() if isinstance(m, nn.Linear)
    ]
    expected = [(2 / 3, 1 / 3), (3 * 3 / 9.5, 0.5 / 9.5), (-9.5, 4.0)]
    assert found == [pytest.approx(pair) for pair in expected]
    assert [neuron.v_init.item() for neuron in unit.neurons.values()] == [0.5, 0.5]


def test_plain_networks_need_no_operator_more() -> None:
    x = inputs(Vector, 4)
    snn = calibrated(toy(Vector), x)
    unit = assert_same(snn, x.double())
    assert list(unit.network.nodes) == list(snn.network.nodes)


def test_groups_take_the_scales_of_their_own_inputs() -> None:
    ann = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2), nn.ReLU(), nn.Flatten())
    x = torch.randn(3, 3, 6, 6)
    assert_same(calibrated(ann, x), x.double())


class Pooled(nn.Module):
    """A pooling, a site and a constant multiple of it are the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu(self.conv(x))
        return F.avg_pool2d(x, 2), x, 2 * x


def test_outputs_are_in_activation_units_and_keep_their_bias() -> None:
    x = torch.randn(3, 3, 8, 8)
    snn = calibrated(Pooled(), x)
    unit = rescale_to_unit_spikes(snn)
    for got, expected in zip(unit(x.double()), snn(x.double()), strict=True):
        assert torch.allclose(got, expected, rtol=1e-10)


class Positions(nn.Module):
    """Linear layers on the last dimension; the channels are the 5 positions, as many as features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.second(F.relu(self.first(x)))))


def test_a_layer_on_positions_takes_no_scale_of_channels() -> None:
    x = torch.randn(6, 5, 4)
    assert_same(calibrated(Positions(), x), x.double())
    assert_same(calibrated(Positions(), x, threshold=Max("layer")), x.double())


def test_settings_come_along() -> None:
    x = inputs(Vector, 4)
    snn = calibrated(toy(Vector), x)
    snn.rows, snn.status = 7, "calibrated"
    unit = rescale_to_unit_spikes(snn)
    assert (unit.rows, unit.status, unit.timesteps, unit.training) == (7, "calibrated", 6, False)


def test_its_rates_are_compared_with_no_activations(tmp_path: Path) -> None:
    """Not even those of a network that was saved."""
    ann, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.rand(8, 2)
    unit = rescale_to_unit_spikes(convert(ann, x, timesteps=4))
    save_converted(unit, tmp_path / "snn.ckpt")
    for snn in (unit, load_converted(tmp_path / "snn.ckpt")):
        for measure in (measure_mismatch, sensitivity, channel_errors):
            with pytest.raises(SettingsError, match="as it was before rescale_to_unit_spikes"):
                measure(ann, snn, x)
