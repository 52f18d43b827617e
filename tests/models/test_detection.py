"""torchvision's detectors by name and settings."""

from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.ops import FrozenBatchNorm2d

from snn_lightning.errors import SettingsError
from snn_lightning.models import create_model, detection, list_models

NAMES = list_models("detection")
SIZES = {"num_classes": 4, "image_size": 32, "source": "detection"}


def create(name: str, **settings) -> nn.Module:
    return create_model(name, **{**SIZES, "fpn_channels": 32, **settings})


def trained(net: nn.Module) -> set[str]:
    """The layers of the backbone that have gradients."""
    body = net.backbone.body
    return {name.split(".")[0] for name, weight in body.named_parameters() if weight.requires_grad}


def anchors(net: nn.Module) -> list[tuple[int, ...]]:
    return (net.rpn if hasattr(net, "rpn") else net).anchor_generator.sizes


def test_names() -> None:
    assert NAMES == ["faster_rcnn", "fcos", "retinanet"]


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_has_losses_in_training_and_detections_after_it(name: str) -> None:
    torch.manual_seed(0)
    net = create(name, score_thresh=0.0, detections_per_img=7)
    images = [torch.rand(3, 40, 48), torch.rand(3, 32, 32)]
    target = {"boxes": torch.tensor([[4.0, 4.0, 20.0, 24.0]]), "labels": torch.tensor([3])}
    losses = net(images, [target, target])
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(weight.grad is not None for weight in net.backbone.body.parameters() if weight.requires_grad)
    with torch.no_grad():
        found = net.eval()(images)
    assert [len(image["boxes"]) for image in found] == [7, 7]
    # In pixels of the images as they were given.
    assert all((image["boxes"].amax(0) <= torch.tensor([48.0, 40.0] * 2)).all() for image in found)
    assert {label for image in found for label in image["labels"].tolist()} <= {0, 1, 2, 3}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "finest", "factor"), [(128, 4, 1), (256, 8, 2)])
def test_small_images_have_small_anchors(name: str, size: int, finest: int, factor: int) -> None:
    net = create(name, image_size=size)
    first = {"faster_rcnn": (16,), "fcos": (4,), "retinanet": (16, 20, 25)}[name]
    if factor == 2:
        first = {"faster_rcnn": (32,), "fcos": (8,), "retinanet": (32, 40, 50)}[name]
    assert anchors(net)[0] == first
    assert anchors(net)[4][0] == 16 * first[0]
    features = net.backbone.eval()(torch.rand(1, 3, 64, 64))
    assert [f.shape[1] for f in features.values()] == [32] * 5
    stride = 4 if name == "faster_rcnn" else finest
    assert [f.shape[2] for f in features.values()] == [max(1, 64 // stride // 2**i) for i in range(5)]


@pytest.mark.parametrize(("size", "proposals", "drawn"), [(255, 256, 64), (256, 2000, 512)])
def test_faster_rcnn_has_few_proposals_in_small_images(size: int, proposals: int, drawn: int) -> None:
    net = create("faster_rcnn", image_size=size).train()
    assert net.rpn.post_nms_top_n() == proposals
    assert net.roi_heads.fg_bg_sampler.batch_size_per_image == drawn


def test_settings_reach_torchvision() -> None:
    settings = {"anchor_sizes": [10, 20, 30, 40, 50], "max_size": 48, "nms_thresh": 0.4}
    net = create("faster_rcnn", **settings, score_thresh=0.1, backbone="resnet34")
    assert anchors(net) == [(10,), (20,), (30,), (40,), (50,)]
    assert (net.transform.min_size, net.transform.max_size) == ((32,), 48)
    assert (net.roi_heads.nms_thresh, net.roi_heads.score_thresh) == (0.4, 0.1)
    assert len(net.backbone.body.layer3) == 6
    net = create("fcos", min_size=300)
    assert (net.transform.min_size, net.transform.max_size) == ((300,), 500)


@pytest.mark.parametrize(
    ("count", "layers"),
    [
        (0, set()),
        (3, {"layer2", "layer3", "layer4"}),
        (5, {"conv1", "bn1", *(f"layer{i}" for i in range(1, 5))}),
    ],
)
def test_the_first_layers_can_be_constant(count: int, layers: set[str]) -> None:
    assert trained(create("retinanet", trainable_layers=count)) == layers


def test_frozen_batch_norms_have_no_weights_to_train() -> None:
    net = create("retinanet", norm="frozen")
    kinds = {type(m) for m in net.backbone.body.modules() if "Norm" in type(m).__name__}
    assert kinds == {FrozenBatchNorm2d}
    assert trained(net) == {"conv1", "layer1", "layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbon": "resnet18"}, "unknown setting of model 'fcos': 'backbon'; did you mean 'backbone'"),
        ({"backbone": "vgg16"}, r"model\.backbone must be one of resnet18, .*, got 'vgg16'"),
        ({"norm": "group"}, r"model\.norm must be 'batch' or 'frozen', got 'group'"),
        ({"trainable_layers": 6}, r"model\.trainable_layers must be a whole number from 0 to 5, got 6"),
        ({"fpn_channels": 0}, r"model\.fpn_channels must be a whole number of at least 1, got 0"),
        ({"fpn_channels": 48}, r"model\.fpn_channels must be a multiple of 32 where .* group norms, got 48"),
        ({"head_norm": "batch"}, r"model\.head_norm must be one of group, got 'batch'"),
        ({"anchor_sizes": [8, 16]}, r"model\.anchor_sizes must be 5 numbers of pixels, got \[8, 16\]"),
        ({"anchor_sizes": [8, 16, 32, 64, -1]}, r"model\.anchor_sizes must be a positive number, got -1"),
        ({"min_size": 64, "max_size": 63}, r"model\.max_size must be .* at least 64, got 63"),
        ({"score_thresh": 1.5}, r"model\.score_thresh must be in \[0, 1\], got 1\.5"),
        ({"detections_per_img": 0}, r"model\.detections_per_img must be a whole"),
        ({"weights_backbone": "COCO"}, r"model\.weights_backbone=COCO: .*COCO"),
        (
            {"in_channels": 1},
            r"model\.name=fcos takes images of 3 channels, and these have 1: choose images with boxes",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        create("fcos", **settings)


@pytest.mark.parametrize(
    ("name", "pyramid", "heads"), [("retinanet", 8, 8), ("faster_rcnn", 8, 0), ("fcos", 8, 8)]
)
def test_group_norms(name: str, pyramid: int, heads: int) -> None:
    net = create(name, head_norm="group")
    groups = [path for path, part in net.named_modules() if isinstance(part, nn.GroupNorm)]
    inside = [path for path in groups if path.startswith("backbone.fpn.")]
    assert (len(inside), len(groups) - len(inside)) == (pyramid, heads)
    assert not any(isinstance(part, nn.GroupNorm) for part in create("retinanet", fpn_channels=24).modules())


def test_another_name() -> None:
    with pytest.raises(SettingsError, match=r"unknown model\.name: 'retina'; did you mean 'retinanet'"):
        create("retina")


def test_without_a_network_the_weights_may_be_put_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(detection, "get_model", offline)
    with pytest.raises(
        SettingsError, match=r"=DEFAULT can't be downloaded \(no route to host\): put the file"
    ):
        create("retinanet", weights_backbone="DEFAULT")


def written(monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]) -> None:
    """Let torchvision's weights be these."""
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *args, **kwargs: dict(state))


LARGE = {"backbone": "resnet50", "norm": "frozen", "fpn_channels": 256, "image_size": 256}


@pytest.mark.parametrize("name", NAMES)
def test_trained_weights_lose_the_ids_that_coco_does_not_use(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = create(name, num_classes=91, **LARGE).eval()
    written(monkeypatch, whole.state_dict())
    net = create(name, num_classes=81, weights="COCO_V1", **LARGE).eval()
    # The 12th category of COCO, the stop sign, has id 13.
    x = torch.rand(1, 256, 2, 2)
    if name == "faster_rcnn":
        flat = torch.rand(1, 1024)
        (scores, boxes), (all_scores, all_boxes) = (m.roi_heads.box_predictor(flat) for m in (net, whole))
        assert torch.equal(scores[:, [0, 11, 12, 80]], all_scores[:, [0, 11, 13, 90]])
        assert torch.equal(boxes[:, 48:52], all_boxes[:, 52:56])
    else:
        one, two = (m.head.classification_head([x]) for m in (net, whole))
        assert one.shape[-1] == 81
        torch.testing.assert_close(one[..., [0, 11, 12, 80]], two[..., [0, 11, 13, 90]])
    assert net.backbone.body.bn1.eps == (1e-5 if name == "fcos" else 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "COCO"}, r"model\.weights=COCO: 'COCO'"),
        ({"weights": "DEFAULT"}, r"=DEFAULT are for 80 categories and the background, .* num_classes=4: set"),
        (
            {"weights": "DEFAULT", "num_classes": 81},
            r"of another network: they need model\.backbone=resnet50",
        ),
    ],
    ids=["name", "classes", "network"],
)
def test_weights_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, settings: dict, message: str) -> None:
    state = {
        f"head.classification_head.cls_logits.{part}": torch.zeros(9 * 91) for part in ("weight", "bias")
    }
    written(monkeypatch, state)
    with pytest.raises(SettingsError, match=message):
        create("retinanet", **settings)
