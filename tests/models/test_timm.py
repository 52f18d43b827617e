import sys

import pytest
import torch

from snn_lightning import convert
from snn_lightning.errors import ConversionError, SettingsError
from snn_lightning.models import create_model, list_models
from tests import fake_timm


def test_a_model_takes_channels_and_classes_and_converts(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm.install(monkeypatch)
    assert list_models("timm") == fake_timm.NAMES
    for name in ("resnet18", "resnet18.a1_in1k"):
        net = create_model(name, source="timm", num_classes=5, in_channels=1)
        assert convert(net.eval(), torch.rand(2, 1, 8, 8), 2)(torch.rand(3, 1, 8, 8)).shape == (3, 5)


def test_gates_and_smooth_activations_get_the_usual_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm.install(monkeypatch)
    net = create_model("efficientnet_b0", source="timm", num_classes=5)
    with pytest.raises(ConversionError, match=r"SiLU in module 'act'(?s:.*)mul (?s:.*)no synapse"):
        convert(net.eval(), torch.rand(2, 3, 8, 8), 2)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet81", {}, r"unknown model\.name: 'resnet81'; did you mean 'resnet18'"),
        ("resnet20", {}, "snn_lightning has one: set model.source=snn_lightning"),
        ("resnet18", {"colour": 1}, r"timm's 'resnet18' refuses the settings \{'colour': 1\}"),
        ("resnet18", {"pretrained": True}, r"timm's 'resnet18' refuses .*no network"),
    ],
)
def test_what_timm_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, settings: dict, message: str
) -> None:
    fake_timm.install(monkeypatch)
    with pytest.raises(SettingsError, match=message):
        create_model(name, source="timm", num_classes=5, **settings)


def test_without_timm_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingsError, match=r"isn't installed: pip install snn_lightning\[timm\]"):
        create_model("resnet18", source="timm", num_classes=5)
