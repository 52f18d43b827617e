"""torchvision's object detectors on a ResNet with a feature pyramid, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.error import URLError

from torch import nn
from torchvision.models import get_model, resnet
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.settings import check_choice, check_interval, check_positive, check_whole

SMALL = 256
"""Below so many pixels the pyramid starts with layer1, and default anchors are half as wide."""

LEVELS = 5
STAGES = ("layer4", "layer3", "layer2", "layer1", "conv1")
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}
BACKBONES = [name for name in resnet.__all__ if name.islower()]


def create_detector(
    name: str, num_classes: int, in_channels: int, image_size: int, settings: Mapping[str, Any]
) -> nn.Module:
    """Build one of torchvision's detectors.

    It takes a list of images `[3, H, W]` in 0...1, of any sizes; in training a list of targets too. Its
    `backbone.body` is the ResNet, whose outputs the feature pyramid reads.

    Args:
        name: one of `list_detectors()`.
        num_classes: labels, the background among them: it is label 0.
        in_channels: 3.
        image_size: the default of `min_size`.
        settings: keywords of `detector`.

    Raises:
        SettingsError: an unknown setting or one out of range, or images of another number of channels.

    Example:
        >>> net = create_detector("retinanet", 6, 3, 64, {"fpn_channels": 32})
        >>> net.anchor_generator.sizes[0]
        (16, 20, 25)
    """
    if in_channels != 3:
        raise SettingsError(
            f"model.name={name} takes images of 3 channels, and these have {in_channels}: set data.in_channels=3"
            ", or data to images with boxes (data=coco, data=shapes)"
        )
    known = [
        field for field in inspect.signature(detector).parameters if field not in ("name", "num_classes")
    ]
    for field in settings:
        if field not in known:
            raise SettingsError(unknown(f"setting of model {name!r}", field, known))
    given = {field: value for field, value in settings.items() if value is not None}
    return detector(name, num_classes, **{"min_size": image_size, **given})


def list_detectors() -> list[str]:
    """The names `create_detector` knows, sorted.

    Example:
        >>> list_detectors()
        ['faster_rcnn', 'fcos', 'retinanet']
    """
    return sorted(_DETECTORS)


def detector(
    name: str,
    num_classes: int,
    *,
    min_size: int,
    max_size: int | None = None,
    backbone: str = "resnet18",
    weights_backbone: str | None = None,
    trainable_layers: int = 5,
    norm: str = "batch",
    fpn_channels: int = 256,
    anchor_sizes: Sequence[int] | None = None,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    detections_per_img: int = 100,
) -> nn.Module:
    """Build a detector with a ResNet and a feature pyramid of five levels.

    Args:
        name: "retinanet", "faster_rcnn" or "fcos".
        num_classes: labels, with the background.
        min_size: the shorter side of each image is brought to so many pixels.
        max_size: the longer side has so many at most; None takes 5/3 of `min_size`.
        backbone: one of torchvision's ResNets.
        weights_backbone: its trained weights, "DEFAULT" or a name; None starts from random ones.
        trainable_layers: how many of its layers, from the last, are trained; 5 are all.
        norm: its batch norms: "batch", or "frozen" for ones with constant statistics and weights.
        fpn_channels: of each level of the pyramid.
        anchor_sizes: one number of pixels a level, at `min_size`; None takes 32, 64, ... 512, for images
            below 256 pixels 16, 32, ... 256, of FCOS a quarter of them.
        score_thresh: detections below are left out.
        nms_thresh: of two boxes of a class that overlap more, intersection over union, the better one stays.
        detections_per_img: so many at most.

    Raises:
        SettingsError: a setting is out of range, or the weights can't be had.

    Example:
        >>> net = detector("fcos", 6, min_size=800)
        >>> [size for (size,) in net.anchor_generator.sizes]
        [8, 16, 32, 64, 128]
    """
    check_whole("model.min_size", min_size)
    max_size = min_size * 5 // 3 if max_size is None else max_size
    check_whole("model.max_size", max_size, least=min_size)
    check_whole("model.detections_per_img", detections_per_img)
    for field, value in (("score_thresh", score_thresh), ("nms_thresh", nms_thresh)):
        check_interval(f"model.{field}", value, "[0, 1]")
    build = _DETECTORS[name]
    small = min_size < SMALL
    if anchor_sizes is None:
        first = (16 if small else 32) // (4 if name == "fcos" else 1)
        anchor_sizes = [first * 2**level for level in range(LEVELS)]
    if len(anchor_sizes) != LEVELS:
        raise SettingsError(
            f"model.anchor_sizes must be {LEVELS} numbers of pixels, got {list(anchor_sizes)}"
        )
    for size in anchor_sizes:
        check_positive("model.anchor_sizes", size)
    body = _body(backbone, weights_backbone, norm, trainable_layers)
    pyramid = _pyramid(body, 1 if small or name == "faster_rcnn" else 2, fpn_channels)
    thresholds = {
        "score_thresh": score_thresh,
        "nms_thresh": nms_thresh,
        "detections_per_img": detections_per_img,
    }
    if name == "faster_rcnn":
        thresholds = {f"box_{field}": value for field, value in thresholds.items()}
    return build(pyramid, num_classes, anchor_sizes, min_size=min_size, max_size=max_size, **thresholds)


def _body(name: str, weights: str | None, norm: str, trainable_layers: int) -> resnet.ResNet:
    """Return a ResNet whose first layers are constant."""
    check_choice("model.backbone", name, BACKBONES)
    check_choice("model.norm", norm, NORMS)
    check_whole("model.trainable_layers", trainable_layers, least=0, most=len(STAGES))
    try:
        body = get_model(name, weights=weights, norm_layer=NORMS[norm])
    except (KeyError, ValueError) as error:
        raise SettingsError(f"model.weights_backbone={weights}: {error}") from error
    except URLError as error:
        raise SettingsError(
            f"model.weights_backbone={weights} can't be downloaded ({error.reason}): put the file where "
            "torch.hub looks for it ($TORCH_HOME/hub/checkpoints), or set model.weights_backbone=null"
        ) from error
    trained = (*STAGES[:trainable_layers], *(["bn1"] if trainable_layers == len(STAGES) else []))
    for path, parameter in body.named_parameters():
        parameter.requires_grad_(path.startswith(trained))
    return body


def _pyramid(body: resnet.ResNet, lowest: int, channels: int) -> BackboneWithFPN:
    """Return five levels of features, the finest of which is that of `layer<lowest>`."""
    check_whole("model.fpn_channels", channels)
    layers = {f"layer{stage}": str(stage - lowest) for stage in range(lowest, 5)}
    widths = [body.inplanes // 2 ** (4 - stage) for stage in range(lowest, 5)]
    last = LastLevelMaxPool() if lowest == 1 else LastLevelP6P7(channels, channels)
    return BackboneWithFPN(body, layers, widths, channels, last)


def _retinanet(pyramid: nn.Module, num_classes: int, sizes: Sequence[int], **settings: Any) -> nn.Module:
    octaves = [tuple(int(size * 2 ** (i / 3)) for i in range(3)) for size in sizes]
    anchors = AnchorGenerator(octaves, ((0.5, 1.0, 2.0),) * LEVELS)
    return RetinaNet(pyramid, num_classes, anchor_generator=anchors, **settings)


def _faster_rcnn(pyramid: nn.Module, num_classes: int, sizes: Sequence[int], **settings: Any) -> nn.Module:
    anchors = AnchorGenerator([(size,) for size in sizes], ((0.5, 1.0, 2.0),) * LEVELS)
    return FasterRCNN(pyramid, num_classes, rpn_anchor_generator=anchors, **settings)


def _fcos(pyramid: nn.Module, num_classes: int, sizes: Sequence[int], **settings: Any) -> nn.Module:
    anchors = AnchorGenerator([(size,) for size in sizes], ((1.0,),) * LEVELS)
    return FCOS(pyramid, num_classes, anchor_generator=anchors, **settings)


_DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "retinanet": _retinanet,
    "faster_rcnn": _faster_rcnn,
    "fcos": _fcos,
}
