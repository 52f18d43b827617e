"""Small object detectors with random weights and realistic batch norms, and images for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection as D
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FrozenBatchNorm2d

CLASSES = 3
WIDTHS = (12, 16, 24, 32)
SIZES = {"min_size": 32, "max_size": 64}
"""Detectors bring the shorter side of every image to 32 pixels."""
NORMAL = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

NORM = partial(nn.BatchNorm2d, momentum=None)
"""Takes the statistics of the first batch as they are."""


def images(count: int, seed: int = 0) -> list[Tensor]:
    """Return smooth images `[3, H, W]`, in pairs of one size."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.rand(1, 3, 4, 4 + 4 * (i // 2 % 2), generator=generator) for i in range(count)]
    return [F.interpolate(x, scale_factor=8, mode="bilinear")[0] for x in coarse]


class Features(nn.Module):
    """The features of an SSD: two maps of a small convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU()
        )
        self.extra = nn.Sequential(nn.Conv2d(24, 24, 3, 2, 1), nn.ReLU())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.features(x)
        return {"0": x, "1": self.extra(x)}


def received(transform: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return what a detector's backbone receives, `[N, 3, H, W]`: normalised, resized and padded images."""
    return transform(batch)[0].tensors


def _resnet(norm: Callable[[int], nn.Module]) -> nn.Module:
    """Return torchvision's ResNet with one narrow block a stage, and no classifier."""
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False)}
    layers |= {"bn1": norm(WIDTHS[0]), "relu": nn.ReLU(inplace=True), "maxpool": nn.MaxPool2d(3, 2, 1)}
    layers["layer1"] = BasicBlock(WIDTHS[0], WIDTHS[0], norm_layer=norm)
    for i, (inputs, outputs) in enumerate(pairwise(WIDTHS), 2):
        down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), norm(outputs))
        layers[f"layer{i}"] = BasicBlock(inputs, outputs, 2, down, norm_layer=norm)
    return nn.Sequential(OrderedDict(layers))


def _pyramid(lowest: int) -> BackboneWithFPN:
    """Return a small ResNet whose frozen batch norms have the statistics of `images`, and an FPN."""
    body, frozen = _resnet(NORM), _resnet(FrozenBatchNorm2d)
    with torch.no_grad():
        body(received(GeneralizedRCNNTransform(**SIZES, **NORMAL), images(8)))
    frozen.load_state_dict({k: v for k, v in body.state_dict().items() if "num_batches" not in k})
    layers = {f"layer{i}": str(i - lowest) for i in range(lowest, 5)}
    return BackboneWithFPN(frozen, layers, list(WIDTHS[lowest - 1 :]), 32)


def _retinanet() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,), (64,), (96,)), ((1.0,),) * 4)
    return D.RetinaNet(_pyramid(2), CLASSES, anchor_generator=anchors, score_thresh=0.0, **SIZES)


def _faster_rcnn() -> nn.Module:
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,), (96,)), ((1.0,),) * 5)
    return D.FasterRCNN(_pyramid(1), CLASSES, rpn_anchor_generator=anchors, box_score_thresh=0.0, **SIZES)


def _fcos() -> nn.Module:
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4)
    return D.FCOS(_pyramid(2), CLASSES, anchor_generator=anchors, score_thresh=0.0, **SIZES)


def _ssd() -> nn.Module:
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.5, 0.8])
    head = D.ssd.SSDHead([24, 24], boxes.num_anchors_per_location(), CLASSES)
    return SSD(Features(), boxes, (32, 32), CLASSES, head=head, score_thresh=0.0)


DETECTORS = {"retinanet": _retinanet, "faster_rcnn": _faster_rcnn, "fcos": _fcos, "ssd": _ssd}


def detector(name: str) -> nn.Module:
    """Return one of `DETECTORS` in eval mode; its weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DETECTORS[name]().eval()


class Yolo(nn.Module):
    """A network in the manner of YOLO: leaky units, a neck that goes up again, two outputs. 5 leaky units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = self.block(3, 12, 2), self.block(12, 24, 2)
        self.deep, self.lateral = self.block(24, 32, 2), self.block(32, 16, 1)
        self.up = nn.Upsample(scale_factor=2)
        self.merge = self.block(24 + 16, 24, 1)
        self.fine, self.coarse = nn.Conv2d(24, 3 * (5 + CLASSES), 1), nn.Conv2d(32, 3 * (5 + CLASSES), 1)

    @staticmethod
    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        layers = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), NORM(outputs)
        return nn.Sequential(*layers, nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.down(self.stem(x))
        deep = self.deep(x)
        merged = self.merge(torch.cat([x, self.up(self.lateral(deep))], 1))
        return [self.coarse(deep), self.fine(merged)]


def yolo() -> nn.Module:
    """Return a `Yolo` in eval mode; its weights are always the same."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = Yolo()
        model(torch.stack(images(8)[:2]))
    return model.eval()
