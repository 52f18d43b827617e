"""What the output gains without the error of a site."""

import pytest
import torch

from snn_lightning import convert
from snn_lightning.analysis.sensitivity import measured_effect, replacing, sensitivity

from ...toys import PlainConv, inputs, toy
from .support import Y, two_layers


def test_the_measured_effect_by_hand() -> None:
    # A current of 0.7 at both steps lets the second site fire twice: 2.4.
    effects = {"_1": (0.81 - 0.09) / Y, "_3": 0.81 / Y}
    assert measured_effect(*two_layers()) == {key: pytest.approx(v) for key, v in effects.items()}


@pytest.mark.parametrize("number", [0, 1])
def test_the_local_effect_is_what_an_analog_module_gives(number: int) -> None:
    ann, images = toy(PlainConv), inputs(PlainConv, 20)
    snn, expected = convert(ann, images, 4), ann(images)
    site = snn.network.sites[number]
    analog = convert(ann, images, 4, analog=(snn.network.nodes[site].path,))
    before, after = ((expected - model(images)).square().sum().item() for model in (snn, analog))
    gain = (before - after) / expected.square().sum().item()
    assert measured_effect(ann, snn, images, local=True)[site] == pytest.approx(gain, rel=1e-3)


def test_nothing_is_left_behind() -> None:
    ann, snn, images = two_layers()
    before = snn(images)
    with replacing(snn, {"_1": torch.ones(1, 2)}):
        assert not torch.equal(snn(images), before)
    measured_effect(ann, snn, images)
    sensitivity(ann, snn, images)
    assert torch.equal(snn(images), before)
    assert not any(parameter.requires_grad for parameter in snn.parameters())
