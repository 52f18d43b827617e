"""What a site's error does to the output, against numbers by hand."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import snn_lightning
from snn_lightning import LCP, Burst, Signed, Switch, calibrate, convert
from snn_lightning.analysis.sensitivity import analog_setting, measured_effect, sensitivity
from snn_lightning.errors import SettingsError
from snn_lightning.graph import normalise

from ...toys import TOYS, Residual, inputs, toy
from .support import Y, linear, two_layers


def test_a_network_by_hand() -> None:
    report = sensitivity(*two_layers())
    assert report.worst() == ("_3", "_1")
    second, first = report.rows
    # e = (0.2, 0.4), and J = 3 * (2, -0.5).
    assert first.predicted == pytest.approx((6 * 0.2 - 1.5 * 0.4) ** 2 / Y)
    assert first.diagonal == pytest.approx(((6 * 0.2) ** 2 + (1.5 * 0.4) ** 2) / Y)
    assert first.weighted == pytest.approx(4 * (0.04 + 0.16))
    assert first.error == pytest.approx(0.2 / (0.49 + 1.96))
    # e = 0.3, and J = 3.
    assert second.predicted == pytest.approx((3 * 0.3) ** 2 / Y)
    assert second.diagonal == pytest.approx(second.predicted)
    assert second.weighted == pytest.approx(2 * 0.09)
    assert report.output_error == pytest.approx(0.9**2 / Y)
    assert (second.module, report.timesteps, report.images) == ("3", 2, 1)


def test_the_own_error_of_a_site() -> None:
    report = sensitivity(*two_layers(), local=True)
    # The mean current of the second site is 0.5: its own error is 0.1, and without it the output is 1.5.
    assert report.local
    own = {"_1": 0.2 / 2.45, "_3": 0.01 / 0.49}
    assert {row.name: row.error for row in report.rows} == {k: pytest.approx(v) for k, v in own.items()}
    effects = {"_1": (0.81 - 0.09) / Y, "_3": (0.81 - 0.36) / Y}
    assert measured_effect(*two_layers(), local=True) == {k: pytest.approx(v) for k, v in effects.items()}


def test_a_single_site_is_predicted_exactly() -> None:
    torch.manual_seed(0)
    ann, images = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), torch.rand(32, 4)
    snn = convert(ann, images, 2)
    report = sensitivity(ann, snn, images)
    assert report.rows[0].predicted == pytest.approx(report.output_error, rel=1e-4)
    assert measured_effect(ann, snn, images)["_1"] == pytest.approx(report.output_error, rel=1e-4)


def test_random_probes_have_the_same_mean() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 40))
    images = torch.rand(64, 4)
    snn = convert(ann, images, 2)
    exact, sampled = (sensitivity(ann, snn, images, probes=probes) for probes in (40, 39))
    for a, b in zip(exact.rows, sampled.rows, strict=True):
        assert (b.name, b.error, b.weighted) == (a.name, a.error, a.weighted)
        assert b.predicted == pytest.approx(a.predicted, rel=0.05)
        assert b.diagonal == pytest.approx(a.diagonal, rel=0.05)
    assert sampled == sensitivity(ann, snn, images, probes=39)
    assert sampled != sensitivity(ann, snn, images, probes=39, seed=1)


@pytest.mark.parametrize("toy_class", TOYS, ids=lambda t: t.__name__)
def test_every_structure(toy_class: type[nn.Module]) -> None:
    ann, images = toy(toy_class), inputs(toy_class, 3)
    snn = convert(ann, images, 4)
    report, effects = sensitivity(ann, snn, images), measured_effect(ann, snn, images)
    assert list(effects) == list(snn.network.sites)
    assert {row.name for row in report.rows} == set(effects)
    assert any(row.predicted > 0 for row in report.rows)
    assert any(abs(effect) > 1e-6 for effect in effects.values())


@pytest.mark.parametrize("neuron", [Signed(), Burst(2), Switch()], ids=str)
def test_parts_of_the_images_and_of_time_add_up(neuron: snn_lightning.spiking.Neuron) -> None:
    ann, images = toy(Residual), inputs(Residual, 20)
    snn = calibrate(ann, [images], LCP(timesteps=8, neuron=neuron), progress=False)
    whole, effects = sensitivity(ann, snn, images), measured_effect(ann, snn, images)
    snn.rows = 8  # 16 images at once, one step after the other
    for a, b in zip(whole.rows, sensitivity(normalise(ann, images), snn, images).rows, strict=True):
        assert (a.predicted, a.error) == (
            pytest.approx(b.predicted, rel=1e-4),
            pytest.approx(b.error, rel=1e-4),
        )
    assert measured_effect(ann, snn, images) == pytest.approx(effects, rel=1e-3, abs=1e-5)


def test_several_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = linear([2.0]), linear([1.0], [1.0])

        def forward(self, x: Tensor) -> dict[str, Tensor | tuple[Tensor, None]]:
            x = x.relu()
            return {"a": self.a(x), "b": (self.b(x).sigmoid(), None)}

    ann, images = Two(), torch.tensor([[1.0], [0.7]])
    snn = convert(ann, images, 1)  # 0.7 becomes 1
    a = (2 * 0.3) ** 2
    sigmoid = torch.tensor(0.7).sigmoid().item()
    b = 2 * (sigmoid * (1 - sigmoid) * 0.3) ** 2
    y = 4 * (1 + 0.49) + 2 * (torch.tensor(1.0).sigmoid().item() ** 2 + sigmoid**2)
    assert sensitivity(ann, snn, images).rows[0].predicted == pytest.approx((a + b) / y)


def test_plain_values_and_a_table() -> None:
    ann, snn, images = two_layers()
    report = sensitivity(ann, snn, images)
    plain = json.loads(json.dumps(report.to_dict()))
    assert [row["name"] for row in plain["rows"]] == ["_3", "_1"]
    assert plain["output_error"] == report.output_error
    lines = str(report).splitlines()
    assert lines[1].split() == ["site", "predicted", "diagonal", "site", "error", "module"]
    assert [line.split()[0] for line in lines[2:4]] == ["_3", "_1"]
    assert "whole error is 0.184;" in lines[-1]


def test_worst() -> None:
    ann, snn, images = two_layers()
    report = sensitivity(ann, snn, images)
    assert report.worst(1) == ("_3",)
    assert report.worst(by="diagonal") == report.worst(by="weighted") == ("_1", "_3")
    with pytest.raises(SettingsError, match=r"by must be one of predicted, .* got 'name'"):
        report.worst(by="name")
    with pytest.raises(SettingsError, match="count must be a whole number of at least 1, got 0"):
        report.worst(0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode: type) -> None:
    ann, snn, images = two_layers()
    expected = sensitivity(ann, snn, images)
    with mode():
        assert sensitivity(ann, snn, images) == expected
        assert measured_effect(ann, snn, images)["_3"] == pytest.approx(0.81 / Y)


def test_bad_input() -> None:
    ann, snn, images = two_layers()
    for function in (sensitivity, measured_effect):
        with pytest.raises(SettingsError, match=f"{function.__name__} needs at least one image"):
            function(ann, snn, images[:0])
        with pytest.raises(SettingsError, match="not of this ANN"):
            function(nn.Sequential(linear([1.0]), nn.ReLU(), linear([1.0])), snn, images)
    with pytest.raises(SettingsError, match="probes must be a whole number of at least 1, got 0"):
        sensitivity(ann, snn, images, probes=0)
    with pytest.raises(SettingsError, match="unknown site: '_2'; There is: _1, _3"):
        analog_setting(ann, snn, ["_2"])


def test_it_is_public() -> None:
    assert snn_lightning.sensitivity is sensitivity


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.relu() * 2).argmax(1)


def test_an_output_without_a_gradient_is_refused() -> None:
    images = torch.rand(2, 4)
    snn = convert(Rounded(), images, 2, analog="auto")
    with pytest.raises(SettingsError, match="output has no gradient"):
        sensitivity(Rounded(), snn, images)


def test_small_effects_are_told_apart_in_the_table() -> None:
    ann, snn, images = two_layers()
    report = sensitivity(ann, snn, images)
    small = replace(report, rows=tuple(replace(row, predicted=row.predicted * 1e-6) for row in report.rows))
    assert "1.84e-07" in str(small)


class Gated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() * x


def test_images_of_inference_mode() -> None:
    with torch.inference_mode():
        images = torch.rand(4, 4)
    snn = convert(Gated(), images.clone(), 2, analog="auto")
    assert sensitivity(Gated(), snn, images) == sensitivity(Gated(), snn, images.clone())
