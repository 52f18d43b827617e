"""ResNet-20 and ResNet-34 of basic blocks, each ReLU a module of its own."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from snn_lightning.models.layers import (
    SMALL_IMAGE,
    initialise,
    pooling,
)
from snn_lightning.models.registry import register_model
from snn_lightning.settings import check_interval, check_positive


def _conv(inputs: int, outputs: int, kernel: int, stride: int, batch_norm: bool) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not batch_norm)
    return [conv, nn.BatchNorm2d(outputs)] if batch_norm else [conv]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes.

    Shape: `[N, inputs, H, W]` to `[N, outputs, H/stride, W/stride]`.

    Example:
        >>> BasicBlock(4, 8, stride=2)(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, batch_norm: bool = True) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv(inputs, outputs, 3, stride, batch_norm),
            nn.ReLU(inplace=True),
            *_conv(outputs, outputs, 3, 1, batch_norm),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, 1, stride, batch_norm))
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the shortcut, then ReLU."""
        return self.relu(self.residual(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, stages of basic blocks that double the channels, global average pooling and a linear layer.

    Shape: `[N, in_channels, H, W]` to `[N, num_classes]`.

    Example:
        >>> stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        >>> net = ResNet(stem, depths=(1, 1), width=4, num_classes=10, dropout=0.0, batch_norm=True)
        >>> net(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        stem: nn.Sequential,
        depths: tuple[int, ...],
        width: int,
        num_classes: int,
        dropout: float,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.stem = stem
        stages: list[nn.Module] = []
        inputs = width
        for stage, depth in enumerate(depths):
            outputs = width * 2**stage
            blocks = []
            for block in range(depth):
                blocks.append(BasicBlock(inputs, outputs, 2 if stage and not block else 1, batch_norm))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(inputs, num_classes)
        initialise(self)
        if not batch_norm:
            self._start_as_identity()

    def _start_as_identity(self) -> None:
        # Without batch norm each block would double the variance; this way it starts as ReLU(x).
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.residual[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `[N, C, H, W]`: `[N, num_classes]`."""
        x = self.pool(self.stages(self.stem(x)))
        return self.head(self.dropout(torch.flatten(x, 1)))


def _deep_stem(channels: tuple[int, int, int, int], stride: int, batch_norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(channels)):
        layers += [*_conv(inputs, outputs, 3, 1 if index else stride, batch_norm), nn.ReLU(inplace=True)]
    return layers


@register_model
def resnet20(
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    width: int = 64,
    deep_stem: bool = False,
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-20 (PC B.2): three stages of three blocks, four times the channels of the original.

    Args:
        num_classes: width of the output.
        in_channels: C of the input.
        image_size: any; nothing in the network depends on it.
        width: channels of the first stage; 64 in the papers, 16 in the original network.
        deep_stem: FL C.2's variant: a stem of three convolutions and four stages of two blocks.
        batch_norm: False for the papers' networks without batch norm.
        dropout: probability before the linear layer.

    Example:
        >>> net = resnet20(num_classes=10, in_channels=1, width=16)
        >>> net.eval()(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])
    """
    check_positive("model.width", width)
    check_interval("model.dropout", dropout, "[0, 1)")
    width = int(width)
    if deep_stem:
        stem = _deep_stem((in_channels, width, width, width), 1, batch_norm)
    else:
        stem = [*_conv(in_channels, width, 3, 1, batch_norm), nn.ReLU(inplace=True)]
    depths = (2, 2, 2, 2) if deep_stem else (3, 3, 3)
    return ResNet(nn.Sequential(*stem), depths, width, num_classes, dropout, batch_norm)


@register_model
def resnet34(
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 224,
    width: int = 64,
    pool: str = "average",
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> ResNet:
    """ResNet-34 with a deep stem of three 3x3 convolutions and average pooling after it (PC B.1).

    Args:
        num_classes: width of the output.
        in_channels: C of the input.
        image_size: up to 64 pixels the stem neither strides nor pools.
        width: channels of the first stage, an even number.
        pool: "average" or "max", after the stem.
        batch_norm: False for the papers' networks without batch norm.
        dropout: probability before the linear layer.

    Example:
        >>> net = resnet34(num_classes=10, image_size=32, width=4)
        >>> net.eval()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    check_positive("model.width", width)
    check_interval("model.dropout", dropout, "[0, 1)")
    width = int(width)
    small = image_size <= SMALL_IMAGE
    half = max(1, width // 2)
    stem = _deep_stem((in_channels, half, half, width), 1 if small else 2, batch_norm)
    if not small:
        stem.append(pooling(pool))
    return ResNet(nn.Sequential(*stem), (3, 4, 6, 3), width, num_classes, dropout, batch_norm)
