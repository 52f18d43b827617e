import pytest
import torch
import torchvision

from snn_lightning.errors import SettingsError
from snn_lightning.models import create_model, list_models


def create(name: str, num_classes: int = 4, **settings) -> torch.nn.Module:
    return create_model(
        name, num_classes=num_classes, source="segmentation", image_size=64, **settings
    ).eval()


def test_the_names() -> None:
    assert list_models("segmentation") == ["deeplabv3", "fcn", "lraspp"]


@pytest.mark.parametrize(
    ("name", "backbone"),
    [("fcn", "resnet50"), ("deeplabv3", "mobilenet_v3_large"), ("lraspp", "mobilenet_v3_large")],
)
@torch.no_grad()
def test_they_are_torchvisions(name: str, backbone: str) -> None:
    ours = create(name, backbone=backbone)
    theirs = torchvision.models.get_model(
        f"{name}_{backbone}", weights=None, weights_backbone=None, num_classes=4
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(1, 3, 32, 48)
    found = ours(x)
    assert list(found) == ["out"]
    assert found["out"].shape == (1, 4, 32, 48)
    assert torch.equal(found["out"], theirs(x)["out"])


@pytest.mark.parametrize(
    ("backbone", "stride", "channels", "size"),
    [
        ("resnet18", None, 128, 8),
        ("resnet18", 16, 256, 4),
        ("resnet34", 32, 512, 2),
        ("resnet50", None, 2048, 8),
        ("resnet50", 16, 2048, 4),
        ("mobilenet_v3_small", None, 576, 4),
        ("mobilenet_v3_small", 32, 576, 2),
    ],
)
@torch.no_grad()
def test_the_stride_of_the_features(backbone: str, stride: int | None, channels: int, size: int) -> None:
    net = create("fcn", backbone=backbone, stride=stride)
    assert net.backbone(torch.rand(1, 3, 64, 64))["out"].shape == (1, channels, size, size)


@torch.no_grad()
def test_lraspp_has_low_features_of_stride_8() -> None:
    for stride, size in ((16, 4), (32, 2)):
        features = create("lraspp", backbone="mobilenet_v3_small", stride=stride).backbone(
            torch.rand(1, 3, 64, 64)
        )
        assert features["low"].shape == (1, 24, 8, 8)
        assert features["high"].shape == (1, 576, size, size)


def test_the_rates_of_deeplab() -> None:
    net = create("deeplabv3", backbone="resnet18", atrous_rates=[1, 2, 3])
    assert [branch[0].dilation for branch in net.classifier[0].convs[1:4]] == [(1, 1), (2, 2), (3, 3)]


def test_trained_weights_load_without_the_auxiliary_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = torchvision.models.get_model("fcn_resnet50", weights=None, weights_backbone=None, aux_loss=True)
    kind = torchvision.models.get_model_weights("fcn_resnet50")
    monkeypatch.setattr(kind, "get_state_dict", lambda self, **_: trained.state_dict())
    net = create("fcn", num_classes=21, weights="DEFAULT")
    assert torch.equal(net.backbone.conv1.weight, trained.backbone.conv1.weight)
    assert torch.equal(net.classifier[4].weight, trained.classifier[4].weight)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fcn", {"bakbone": "resnet18"}, "setting of model 'fcn': 'bakbone'; did you mean 'backbone'"),
        ("fcn", {"atrous_rates": [1, 2, 3]}, "setting of model 'fcn': 'atrous_rates'"),
        ("fcn", {"backbone": "vgg16"}, "model.backbone must be one of resnet18, .*, got 'vgg16'"),
        (
            "lraspp",
            {"backbone": "resnet18"},
            "model.backbone must be 'mobilenet_v3_large' or .*, got 'resnet18'",
        ),
        ("fcn", {"stride": 4}, r"model.stride of resnet50 must be one of \(8, 16, 32\), got 4"),
        ("lraspp", {"stride": 8}, r"model.stride of mobilenet_v3_large must be one of \(16, 32\), got 8"),
        ("deeplabv3", {"atrous_rates": [6, 12]}, "model.atrous_rates must be three whole numbers"),
        (
            "deeplabv3",
            {"atrous_rates": [6, 12, 0]},
            "model.atrous_rates must be a whole number of at least 1",
        ),
        ("fcn", {"in_channels": 1}, "3 channels and the data have 1: set data.in_channels=3"),
        ("fcn", {"weights": "DEFAULT"}, "are for 21 classes and the data have 4: set model.weights=null"),
        (
            "fcn",
            {"weights": "VOC"},
            "model.weights must be 'COCO_WITH_VOC_LABELS_V1' or 'DEFAULT', got 'VOC'",
        ),
        (
            "fcn",
            {"weights": "DEFAULT", "backbone": "resnet18"},
            "torchvision has none of fcn_resnet18, only of",
        ),
        (
            "fcn",
            {"weights_backbone": "V9", "backbone": "resnet18"},
            "model.weights_backbone: resnet18 has no 'V9'",
        ),
    ],
)
def test_bad_settings_are_named(name: str, settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        create(name, **settings)
