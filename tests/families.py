"""torchvision's own classifier classes, a narrow one for each family, for tests of whole architectures.

Every family keeps all structures of its class: downsampling shortcuts, ReLU modules that are called twice,
auxiliary heads that are there and off in eval mode, grouped and depthwise convolutions, shuffled channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import (
    VGG,
    AlexNet,
    DenseNet,
    GoogLeNet,
    Inception3,
    MNASNet,
    MobileNetV2,
    RegNet,
    ResNet,
    ShuffleNetV2,
    SqueezeNet,
)
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vgg import cfgs, make_layers

from tests.toys import randomise_batch_norms

CLASSES = 9


@dataclass(frozen=True)
class Family:
    """How to build the narrow network of a family.

    Args:
        build: builds it; the weights do not matter.
        size: height and width of its inputs, in pixels.
        max_pooled: whether it has max pooling behind a site.
        divide: by how much to divide all its channels, where its class has no parameter for that.
        gain: of the random weights, such that activations neither die out nor explode; the square root of 2
            makes up for the activations (He), less is right where many layers have none behind them.
    """

    build: Callable[[], nn.Module]
    size: int = 32
    max_pooled: bool = True
    divide: int = 1
    gain: float = 2**0.5


def _resnet(block: type[BasicBlock | Bottleneck], groups: int = 1, width: int = 64) -> Callable[[], ResNet]:
    # The first group of blocks has an identity shortcut, the others have a 1x1 convolution there.
    return lambda: ResNet(block, [2, 1, 1, 1], CLASSES, groups=groups, width_per_group=width)


def _vgg(batch_norm: bool) -> Callable[[], VGG]:
    return lambda: VGG(make_layers(cfgs["A"], batch_norm), CLASSES, init_weights=False)


def _mobilenet_v2() -> MobileNetV2:
    setting = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2], [6, 64, 1, 2]]
    return MobileNetV2(CLASSES, width_mult=0.25, inverted_residual_setting=setting, round_nearest=4)


def _regnet_x() -> RegNet:
    params = BlockParams(
        depths=[1, 2, 1],
        widths=[8, 16, 24],
        group_widths=[4, 8, 8],
        bottleneck_multipliers=[1.0] * 3,
        strides=[2] * 3,
    )
    return RegNet(params, CLASSES, stem_width=8)


FAMILIES: dict[str, Family] = {
    "alexnet": Family(lambda: AlexNet(CLASSES), size=64, divide=16),
    "vgg": Family(_vgg(batch_norm=False), divide=16),
    "vgg_bn": Family(_vgg(batch_norm=True), divide=16),
    "resnet_basic": Family(_resnet(BasicBlock), divide=8),
    "resnet_bottleneck": Family(_resnet(Bottleneck), divide=16),
    "resnext": Family(_resnet(Bottleneck, groups=4, width=32), divide=16),
    "wide_resnet": Family(_resnet(Bottleneck, width=128), divide=16),
    "googlenet": Family(lambda: GoogLeNet(CLASSES, init_weights=False), divide=8),
    "inception_v3": Family(lambda: Inception3(CLASSES, init_weights=False), size=75, divide=16),
    "densenet": Family(lambda: DenseNet(4, (2, 3, 2, 2), 8, num_classes=CLASSES)),
    "squeezenet1_0": Family(lambda: SqueezeNet("1_0", CLASSES), divide=2),
    "squeezenet1_1": Family(lambda: SqueezeNet("1_1", CLASSES), divide=2),
    "mobilenet_v2": Family(_mobilenet_v2, max_pooled=False, gain=1.0),
    "mnasnet": Family(lambda: MNASNet(0.2, CLASSES), max_pooled=False, gain=1.0),
    "shufflenet_v2": Family(lambda: ShuffleNetV2([2, 3, 2], [8, 16, 24, 32, 64], CLASSES), gain=1.0),
    "regnet_x": Family(_regnet_x, max_pooled=False),
}


ALIKE = ("resnet_bottleneck", "squeezenet1_0", "vgg", "wide_resnet")
"""Families without a structure of their own: they have other widths, fewer groups or no batch norm."""

EVERY = [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in FAMILIES]
"""The names as parameters of a test; what another family stands for is a slow test."""


def family(name: str, seed: int = 0) -> nn.Module:
    """Return a narrow network in eval mode, with weights set by `seed`; the global generator is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device("meta"):
            # The full sizes are never allocated.
            ann = FAMILIES[name].build()
        for module in list(ann.modules()):
            for key, child in module.named_children():
                setattr(module, key, _narrow(child, FAMILIES[name].divide, FAMILIES[name].gain))
        return randomise_batch_norms(ann, seed).eval()


def images(name: str, count: int, seed: int = 0) -> Tensor:
    """Return `count` standard normal images `[N, 3, H, W]` for a family."""
    size = FAMILIES[name].size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _narrow(layer: nn.Module, divide: int, gain: float) -> nn.Module:
    """Return `layer` with its channels divided, and new weights of standard deviation gain / sqrt(fan in).

    The channels of the images and the classes are the numbers that can't be divided.
    """

    def fewer(channels: int) -> int:
        return channels if channels % divide else channels // divide

    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(fewer(layer.num_features), layer.eps)
    if isinstance(layer, nn.Conv2d):
        narrow: nn.Conv2d | nn.Linear = nn.Conv2d(
            fewer(layer.in_channels),
            fewer(layer.out_channels),
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
        )
    elif isinstance(layer, nn.Linear):
        narrow = nn.Linear(fewer(layer.in_features), fewer(layer.out_features))
    else:
        return layer
    nn.init.normal_(narrow.weight, std=gain * narrow.weight[0].numel() ** -0.5)
    if narrow.bias is not None:
        nn.init.uniform_(narrow.bias, -0.1, 0.1)
    return narrow
