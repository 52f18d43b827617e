import pytest
import torch
from torch import fx, nn

from snn_lightning.errors import SettingsError
from snn_lightning.models import create_model, list_models, register_model


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def of_kind(net: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [m for m in net.modules() if isinstance(m, kinds)]


SMALL = {
    "vgg16": {"width": 0.125},
    "vgg16_bn": {"width": 0.125},
    "resnet20": {"width": 8},
    "resnet34": {"width": 8},
    "mobilenet": {"width": 0.25},
    "mnasnet": {"alpha": 0.35},
    "regnetx_4gf": {},
}


def test_the_papers_models_are_there() -> None:
    assert set(list_models()) == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_traced_model_computes_what_the_model_computes(name: str, channels: int) -> None:
    net = create_model(name, num_classes=7, in_channels=channels, image_size=32, **SMALL[name]).eval()
    x = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = net(x)
        traced = fx.symbolic_trace(net)(x)
    assert y.shape == (2, 7)
    assert torch.equal(y, traced)
    assert y.std() > 0


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [32, 224])
def test_no_default_has_max_pooling_and_no_relu_serves_twice(name: str, size: int) -> None:
    with torch.device("meta"):
        net = create_model(name, num_classes=10, image_size=size)
    assert not of_kind(net, nn.MaxPool2d, nn.AdaptiveMaxPool2d)
    calls = [n.target for n in fx.symbolic_trace(net.eval()).graph.nodes if n.op == "call_module"]
    relus = {name for name, m in net.named_modules() if isinstance(m, nn.ReLU)}
    assert sorted(c for c in calls if c in relus) == sorted(relus)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg16", 138_357_544),  # as published
        ("vgg16_bn", 138_365_992 - 4224),  # as published, less the biases before batch norm
        ("mobilenet", 4_231_976),  # as published
        ("regnetx_4gf", 22_118_248),  # published: 22.1 million
        # torchvision's 21 797 672, its 7x7 stem (and batch norm) exchanged for 3 -> 32 -> 32 -> 64 of 3x3
        ("resnet34", 21_797_672 - 9408 - 128 + 27 * 32 + 288 * 32 + 288 * 64 + 2 * (32 + 32 + 64)),
    ],
)
def test_imagenet_parameter_counts(name: str, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(create_model(name, num_classes=1000, image_size=224)) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 0.27 million in the original, whose shortcuts have no weights; two 1x1 shortcuts are added
        ({"width": 16}, 269_722 + 16 * 32 + 64 + 32 * 64 + 128),
        ({"width": 64}, 4_327_754),
    ],
)
def test_resnet20_parameter_counts(settings: dict[str, int], expected: int) -> None:
    assert parameters(create_model("resnet20", num_classes=10, **settings)) == expected


def test_vgg_has_thirteen_convolutions_of_real_widths() -> None:
    net = create_model("vgg16_bn", num_classes=10)
    reference = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert [m.out_channels for m in of_kind(net, nn.Conv2d)] == reference
    assert len(of_kind(net, nn.Linear)) == 1
    assert len(of_kind(net, nn.AvgPool2d)) == 5
    quarter = create_model("vgg16_bn", num_classes=10, width=0.25)
    assert [m.out_channels for m in of_kind(quarter, nn.Conv2d)] == [c // 4 for c in reference]


def test_vgg_forms_pooling_and_dropout() -> None:
    with torch.device("meta"):
        large = create_model("vgg16_bn", num_classes=1000, image_size=224)
    assert [m.out_features for m in of_kind(large, nn.Linear)] == [4096, 4096, 1000]
    two = create_model("vgg16", num_classes=10, image_size=64, width=0.125)
    assert two(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    assert of_kind(two, nn.Linear)[0].in_features == 64 * 4
    pooled = create_model("vgg16", num_classes=10, pool="max", dropout=0.25, width=0.125)
    assert len(of_kind(pooled, nn.MaxPool2d)) == 5
    assert [m.p for m in of_kind(pooled, nn.Dropout)] == [0.25] * 5


def test_resnet20_variants() -> None:
    plain = create_model("resnet20", num_classes=10, width=8)
    deep = create_model("resnet20", num_classes=10, width=8, deep_stem=True)
    bare = create_model("resnet20", num_classes=10, width=8, batch_norm=False)
    assert [len(stage) for stage in plain.stages] == [3, 3, 3]
    assert [len(stage) for stage in deep.stages] == [2, 2, 2, 2]
    assert len(of_kind(deep.stem, nn.Conv2d)) == 3
    for net in (plain, deep):  # twenty layers, the 1x1 shortcuts not counted
        assert sum(m.kernel_size == (3, 3) for m in of_kind(net, nn.Conv2d)) + 1 == 20
    assert not of_kind(bare, nn.BatchNorm2d)
    assert all(m.bias is not None for m in of_kind(bare, nn.Conv2d))


@pytest.mark.parametrize("name", ["mobilenet", "mnasnet", "regnetx_4gf"])
@pytest.mark.parametrize(("size", "stride"), [(32, 1), (224, 2)])
def test_the_stem_strides_only_over_large_images(name: str, size: int, stride: int) -> None:
    with torch.device("meta"):
        net = create_model(name, num_classes=10, image_size=size)
    assert of_kind(net, nn.Conv2d)[0].stride == (stride, stride)


def test_mnasnet_is_twice_as_wide_and_learns_its_statistics_in_time() -> None:
    wide, single = (create_model("mnasnet", num_classes=10, **s) for s in ({}, {"alpha": 1.0}))
    assert of_kind(wide, nn.Conv2d)[0].out_channels == 2 * of_kind(single, nn.Conv2d)[0].out_channels
    assert {m.momentum for m in of_kind(wide, nn.BatchNorm2d)} == {0.1}


def test_torchvision_lists_classifiers_only() -> None:
    names = list_models("torchvision")
    assert {"resnet50", "googlenet", "inception_v3", "vit_b_16"} <= set(names)
    assert not any("fcn" in n or "rcnn" in n or "raft" in n or "r3d" in n or "quantized" in n for n in names)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet", "mnasnet0_5", "vit_b_16"])
def test_torchvision_models_take_channels_and_classes(name: str) -> None:
    net = create_model(name, source="torchvision", num_classes=5, in_channels=1, image_size=64).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 5)


def test_inception_has_no_auxiliary_output() -> None:
    net = create_model("inception_v3", source="torchvision", num_classes=5, image_size=75).train()
    assert isinstance(net(torch.zeros(2, 3, 75, 75)), torch.Tensor)


@pytest.mark.parametrize(
    ("name", "settings", "parts"),
    [
        ("vgg16bn", {}, ["model.name", "vgg16bn", "did you mean 'vgg16_bn'", "resnet34"]),
        ("resnet50", {}, ["model.name", "model.source=torchvision"]),
        ("resnet50", {"source": "keras"}, ["model.source", "keras", "import", "timm", "torchvision"]),
        ("vgg16", {"widht": 1.0}, ["widht", "did you mean 'width'", "dropout"]),
        ("vgg16", {"width": 0.0}, ["model.width"]),
        ("vgg16", {"dropout": 1.0}, ["model.dropout"]),
        ("vgg16", {"pool": "median"}, ["model.pool", "median"]),
        ("vgg16", {"image_size": 28}, ["image_size", "28", "32"]),
        ("vgg16", {"in_channels": 0}, ["model.in_channels"]),
        ("resnet18", {"source": "torchvision", "colour": 3}, ["resnet18", "colour"]),
        (
            "resnet18",
            {"source": "torchvision", "weights": "DEFAULT", "in_channels": 1},
            ["model.weights=", "in_channels"],
        ),
        ("resnet18", {"source": "torchvision", "weights": "DEFAULT"}, ["resnet18", "1000"]),
    ],
)
def test_bad_settings_are_named(name: str, settings: dict, parts: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        create_model(name, **{"num_classes": 10, **settings})
    for part in parts:
        assert part in str(caught.value)


def test_a_registered_model_is_built_and_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from snn_lightning.models.registry import MODELS

    monkeypatch.setattr(MODELS, "_things", dict(MODELS._things))

    def tiny(*, num_classes: int, in_channels: int, image_size: int, depth: int = 1) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes * depth))

    register_model(tiny)
    assert create_model("tiny", num_classes=3, in_channels=1, image_size=4, depth=2)(
        torch.zeros(1, 1, 4, 4)
    ).shape == (1, 6)
    with pytest.raises(SettingsError, match="registered already"):
        register_model(tiny)
    with pytest.raises(SettingsError, match="image_size"):
        register_model(lambda *, num_classes, in_channels: nn.Identity())
