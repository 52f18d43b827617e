"""VGG-16 with and without batch norm, in the CIFAR and the ImageNet form."""

from torch import Tensor, nn

from snn_lightning.errors import SettingsError
from snn_lightning.models.layers import SMALL_IMAGE, initialise, pooling
from snn_lightning.models.registry import register_model
from snn_lightning.settings import check_interval, check_positive

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of the 13 convolutions; a pooling follows each block."""


class VGG(nn.Module):
    """Thirteen 3x3 convolutions in five blocks, then linear layers (Simonyan & Zisserman, 2014).

    Shape: `[N, in_channels, image_size, image_size]` to `[N, num_classes]`.

    Example:
        >>> import torch
        >>> features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
        >>> net = VGG(features, nn.Sequential(nn.Linear(64, 10)))
        >>> net(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `[N, C, H, W]`: `[N, num_classes]`."""
        return self.classifier(self.features(x).flatten(1))


def _features(in_channels: int, width: float, pool: str, dropout: float, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = in_channels
    for block in BLOCKS:
        for full in block:
            outputs = max(1, round(full * width))
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU(inplace=True))
            channels = outputs
        layers.append(pooling(pool))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def _classifier(inputs: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        inputs = hidden
    return nn.Sequential(*layers, nn.Linear(hidden, num_classes))


def _vgg(
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float,
    pool: str,
    dropout: float,
    batch_norm: bool,
) -> VGG:
    check_positive("model.width", width)
    check_interval("model.dropout", dropout, "[0, 1)")
    if image_size < 32:
        raise SettingsError(
            f"VGG halves the image five times: data.image_size must be at least 32, got {image_size}"
        )
    small = image_size <= SMALL_IMAGE
    features = _features(in_channels, width, pool, dropout if small else 0.0, batch_norm)
    inputs = max(1, round(BLOCKS[-1][-1] * width)) * (image_size // 32) ** 2
    if small:
        classifier = nn.Sequential(nn.Linear(inputs, num_classes))
    else:
        classifier = _classifier(inputs, max(1, round(4096 * width)), num_classes, dropout)
    return VGG(features, classifier)


@register_model
def vgg16(
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    pool: str = "average",
    dropout: float = 0.0,
) -> VGG:
    """VGG-16 without batch norm (PC B.2 trains it with `dropout=0.25`).

    Args:
        num_classes: width of the output.
        in_channels: C of the input.
        image_size: up to 64 pixels one linear layer follows the convolutions, above that three.
        width: factor on every number of channels (and on the 4096 of the hidden linear layers).
        pool: "average" or "max".
        dropout: probability; after each pooling in the CIFAR form, else after the hidden linear layers.

    Example:
        >>> vgg16(num_classes=10, width=0.125).features[0]
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    return _vgg(num_classes, in_channels, image_size, width, pool, dropout, batch_norm=False)


@register_model
def vgg16_bn(
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    pool: str = "average",
    dropout: float = 0.0,
) -> VGG:
    """VGG-16 with batch norm after each convolution; the settings are those of `vgg16`.

    Example:
        >>> vgg16_bn(num_classes=10, width=0.125).features[1].num_features
        8
    """
    return _vgg(num_classes, in_channels, image_size, width, pool, dropout, batch_norm=True)
