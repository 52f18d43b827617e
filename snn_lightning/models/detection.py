"""torchvision's object detectors on a ResNet with a feature pyramid, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch import nn
from torchvision.models import get_model, resnet
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.models.detection_weights import fetching, load_trained
from snn_lightning.settings import check_choice, check_interval, check_positive, check_whole

SMALL = 256
"""Below so many pixels the pyramid starts at layer1, default anchors are half as wide and proposals fewer."""

FEW_PROPOSALS = {
    "rpn_pre_nms_top_n_train": 500,
    "rpn_pre_nms_top_n_test": 500,
    "rpn_post_nms_top_n_train": 256,
    "rpn_post_nms_top_n_test": 256,
    "box_batch_size_per_image": 64,
}
"""Of Faster R-CNN in small images: a quarter of torchvision's or less, and of the time that they take."""

LEVELS = 5
STAGES = ("layer4", "layer3", "layer2", "layer1", "conv1")
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}
GROUPS = 32
BACKBONES = [name for name in resnet.__all__ if name.islower()]


@dataclass(frozen=True)
class DetectorSettings:
    """The settings of a detector with a ResNet and a feature pyramid of five levels.

    Args:
        min_size: the shorter side of each image is brought to so many pixels.
        max_size: the longer side has so many at most; None takes 5/3 of `min_size`.
        backbone: one of torchvision's ResNets.
        weights: trained weights of the whole detector, "DEFAULT" or a name, for the 80 categories of COCO;
            they need resnet50, frozen batch norms, 256 channels and no `head_norm`. None takes none.
        weights_backbone: those of the ResNet alone; None starts from random ones.
        trainable_layers: how many of its layers, from the last, are trained; 5 are all.
        norm: its batch norms: "batch", or "frozen" for ones with constant statistics and weights.
        fpn_channels: of each level of the pyramid.
        head_norm: "group" for group norms in the pyramid and RetinaNet's heads, without which a training from
            random weights is slow; None for none. FCOS has some in its heads anyway.
        anchor_sizes: one number of pixels a level, at `min_size`; None takes 32, 64, ... 512, below 256
            pixels 16, 32, ... 256, of FCOS a quarter of them.
        score_thresh: detections below are left out.
        nms_thresh: of two boxes of a class that overlap more (intersection over union) the better one stays.
        detections_per_img: so many at most.

    Raises:
        SettingsError: a setting is out of range.

    Example:
        >>> DetectorSettings(min_size=800).longest
        1333
    """

    min_size: int
    max_size: int | None = None
    backbone: str = "resnet18"
    weights: str | None = None
    weights_backbone: str | None = None
    trainable_layers: int = 5
    norm: str = "batch"
    fpn_channels: int = 256
    head_norm: str | None = None
    anchor_sizes: Sequence[int] | None = None
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    detections_per_img: int = 100

    def __post_init__(self) -> None:
        check_whole("model.min_size", self.min_size)
        check_whole("model.max_size", self.max_size, least=self.min_size, optional=True)
        check_choice("model.backbone", self.backbone, BACKBONES)
        check_whole("model.trainable_layers", self.trainable_layers, least=0, most=len(STAGES))
        check_choice("model.norm", self.norm, NORMS)
        check_whole("model.fpn_channels", self.fpn_channels)
        if self.head_norm is not None:
            check_choice("model.head_norm", self.head_norm, ("group",))
            self.check_groups()
        if self.anchor_sizes is not None:
            if len(self.anchor_sizes) != LEVELS:
                raise SettingsError(
                    f"model.anchor_sizes must be {LEVELS} numbers of pixels, got {list(self.anchor_sizes)}"
                )
            for size in self.anchor_sizes:
                check_positive("model.anchor_sizes", size)
        for field in ("score_thresh", "nms_thresh"):
            check_interval(f"model.{field}", getattr(self, field), "[0, 1]")
        check_whole("model.detections_per_img", self.detections_per_img)

    def check_groups(self) -> None:
        """Raise a SettingsError unless the pyramid's channels can be grouped."""
        if self.fpn_channels % GROUPS:
            raise SettingsError(
                f"model.fpn_channels must be a multiple of {GROUPS} where there are group norms, got "
                f"{self.fpn_channels}"
            )

    @property
    def small(self) -> bool:
        """Whether the pyramid starts a level lower."""
        return self.min_size < SMALL

    @property
    def longest(self) -> int:
        """Pixels of the longer side at most."""
        return self.min_size * 5 // 3 if self.max_size is None else self.max_size

    @property
    def group_norm(self) -> Callable[[int], nn.Module] | None:
        """The norm of the pyramid and of heads."""
        return None if self.head_norm is None else partial(nn.GroupNorm, GROUPS)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of images, as torchvision's classes take them."""
        return {"min_size": self.min_size, "max_size": self.longest}

    def thresholds(self, prefix: str = "") -> dict[str, Any]:
        """What chooses the detections, as torchvision's classes take it."""
        chosen = ("score_thresh", "nms_thresh", "detections_per_img")
        return {prefix + field: getattr(self, field) for field in chosen}

    def anchors(
        self, first: int, octaves: int = 1, ratios: Sequence[float] = (0.5, 1.0, 2.0)
    ) -> AnchorGenerator:
        """Return the generator of anchors.

        Args:
            first: size at the finest level in large images, in pixels, where `anchor_sizes` is None.
            octaves: sizes a level, from one to nearly its double.
            ratios: height over width.
        """
        first = first // 2 if self.small else first
        sizes = self.anchor_sizes or [first * 2**level for level in range(LEVELS)]
        steps = [2 ** (step / octaves) for step in range(octaves)]
        every = [tuple(int(size * step) for step in steps) for size in sizes]
        return AnchorGenerator(every, (tuple(ratios),) * LEVELS)


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
        settings: those of `DetectorSettings`.

    Raises:
        SettingsError: an unknown setting or one out of range, or images of another number of channels.

    Example:
        >>> net = create_detector("retinanet", 6, 3, 64, {"fpn_channels": 32})
        >>> net.anchor_generator.sizes[0]
        (16, 20, 25)
    """
    if in_channels != 3:
        raise SettingsError(
            f"model.name={name} takes images of 3 channels, and these have {in_channels}: choose images with "
            "boxes (data=coco, data=shapes)"
        )
    known = [field.name for field in fields(DetectorSettings)]
    for field in settings:
        if field not in known:
            raise SettingsError(unknown(f"setting of model {name!r}", field, known))
    given = dict(settings)
    if given.get("min_size") is None:
        given["min_size"] = image_size
    chosen = DetectorSettings(**given)
    net = _DETECTORS[name](num_classes, chosen)
    if chosen.weights is not None:
        load_trained(net, name, num_classes, chosen.weights)
    return net


def list_detectors() -> list[str]:
    """The names `create_detector` knows, sorted.

    Example:
        >>> list_detectors()
        ['faster_rcnn', 'fcos', 'retinanet']
    """
    return sorted(_DETECTORS)


def _retinanet(num_classes: int, settings: DetectorSettings) -> nn.Module:
    pyramid, anchors = _pyramid(settings, settings.small), settings.anchors(32, octaves=3)
    count = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(settings.fpn_channels, count, num_classes, norm_layer=settings.group_norm)
    chosen = {**settings.sizes, **settings.thresholds()}
    return RetinaNet(pyramid, num_classes, anchor_generator=anchors, head=head, **chosen)


def _faster_rcnn(num_classes: int, settings: DetectorSettings) -> nn.Module:
    pyramid, anchors = _pyramid(settings, from_layer1=True), settings.anchors(32)
    chosen = {**settings.sizes, **settings.thresholds("box_"), **(FEW_PROPOSALS if settings.small else {})}
    return FasterRCNN(pyramid, num_classes, rpn_anchor_generator=anchors, **chosen)


def _fcos(num_classes: int, settings: DetectorSettings) -> nn.Module:
    settings.check_groups()
    pyramid, anchors = _pyramid(settings, settings.small), settings.anchors(8, ratios=(1.0,))
    chosen = {**settings.sizes, **settings.thresholds()}
    return FCOS(pyramid, num_classes, anchor_generator=anchors, **chosen)


def _pyramid(settings: DetectorSettings, from_layer1: bool) -> BackboneWithFPN:
    """Return the ResNet and five levels of features, the finest of which is that of layer1 or layer2."""
    lowest, body, channels = 1 if from_layer1 else 2, _body(settings), settings.fpn_channels
    layers = {f"layer{stage}": str(stage - lowest) for stage in range(lowest, 5)}
    widths = [body.inplanes // 2 ** (4 - stage) for stage in range(lowest, 5)]
    last = LastLevelMaxPool() if from_layer1 else LastLevelP6P7(channels, channels)
    return BackboneWithFPN(body, layers, widths, channels, last, settings.group_norm)


def _body(settings: DetectorSettings) -> resnet.ResNet:
    """Return a ResNet whose first layers are constant."""
    weights, count = settings.weights_backbone, settings.trainable_layers
    with fetching("weights_backbone", weights):
        body = get_model(settings.backbone, weights=weights, norm_layer=NORMS[settings.norm])
    trained = (*STAGES[:count], *(["bn1"] if count == len(STAGES) else []))
    for path, parameter in body.named_parameters():
        parameter.requires_grad_(path.startswith(trained))
    return body


_DETECTORS: dict[str, Callable[[int, DetectorSettings], nn.Module]] = {
    "retinanet": _retinanet,
    "faster_rcnn": _faster_rcnn,
    "fcos": _fcos,
}
