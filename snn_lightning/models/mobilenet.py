"""MobileNet V1."""

import torch
from torch import Tensor, nn

from snn_lightning.models.layers import SMALL_IMAGE, conv_bn_relu, initialise
from snn_lightning.models.registry import register_model
from snn_lightning.settings import check_interval, check_positive

MOBILENET = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Output channels and stride of MobileNet's 13 depthwise separable blocks."""


class MobileNet(nn.Module):
    """A stem and 13 depthwise separable convolutions with ReLU (Howard et al., 2017).

    Shape: `[N, in_channels, H, W]` to `[N, num_classes]`.

    Example:
        >>> net = MobileNet(10, in_channels=3, stem_stride=1, width=0.25, dropout=0.0)
        >>> net.eval()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, num_classes: int, in_channels: int, stem_stride: int, width: float, dropout: float
    ) -> None:
        super().__init__()
        channels = max(1, round(32 * width))
        blocks: list[nn.Module] = [conv_bn_relu(in_channels, channels, 3, stem_stride)]
        for full, stride in MOBILENET:
            outputs = max(1, round(full * width))
            depthwise = conv_bn_relu(channels, channels, 3, stride, groups=channels)
            blocks.append(nn.Sequential(depthwise, conv_bn_relu(channels, outputs, 1)))
            channels = outputs
        self.features = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `[N, C, H, W]`: `[N, num_classes]`."""
        return self.head(self.dropout(torch.flatten(self.pool(self.features(x)), 1)))


@register_model
def mobilenet(
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 224,
    width: float = 1.0,
    dropout: float = 0.0,
) -> MobileNet:
    """MobileNet V1; up to 64 pixels its CIFAR variant, whose stem has stride 1 (FL C.2).

    Args:
        num_classes: width of the output.
        in_channels: C of the input.
        image_size: decides the stride of the stem.
        width: factor on every number of channels.
        dropout: probability before the linear layer.

    Example:
        >>> net = mobilenet(num_classes=10, image_size=32, width=0.25)
        >>> net.eval()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    check_positive("model.width", width)
    check_interval("model.dropout", dropout, "[0, 1)")
    return MobileNet(num_classes, in_channels, 1 if image_size <= SMALL_IMAGE else 2, width, dropout)
