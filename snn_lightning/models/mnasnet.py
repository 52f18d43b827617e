"""MNASNet."""

from torch import nn
from torchvision.models import MNASNet

from snn_lightning.models.layers import SMALL_IMAGE, replace_first_conv
from snn_lightning.models.registry import register_model
from snn_lightning.settings import check_interval, check_positive


@register_model
def mnasnet(
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 224,
    alpha: float = 2.0,
    dropout: float = 0.2,
    bn_momentum: float = 0.1,
) -> MNASNet:
    """torchvision's MNASNet, twice as wide as the original by default (PC's MNasNet x2).

    Args:
        num_classes: width of the output.
        in_channels: C of the input.
        image_size: up to 64 pixels the stem has stride 1.
        alpha: factor on the number of channels.
        dropout: probability before the linear layer.
        bn_momentum: of the running statistics; torchvision's own 0.0003 takes some ten thousand steps.

    Example:
        >>> mnasnet(num_classes=10, image_size=32, alpha=0.5).classifier[1].out_features
        10
    """
    check_positive("model.alpha", alpha)
    check_interval("model.dropout", dropout, "[0, 1)")
    net = MNASNet(alpha, num_classes, dropout)
    small = image_size <= SMALL_IMAGE
    if small or in_channels != 3:
        replace_first_conv(net, in_channels, 1 if small else 2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = bn_momentum
    return net
