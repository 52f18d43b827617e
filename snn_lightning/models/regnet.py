"""RegNetX-4GF."""

from torchvision.models.regnet import BlockParams, RegNet

from snn_lightning.models.layers import SMALL_IMAGE, replace_first_conv
from snn_lightning.models.registry import register_model


@register_model
def regnetx_4gf(*, num_classes: int, in_channels: int = 3, image_size: int = 224) -> RegNet:
    """RegNetX-4GF, built with torchvision's parts from the published parameters (Radosavovic et al., 2020).

    Args:
        num_classes: width of the output.
        in_channels: C of the input.
        image_size: up to 64 pixels the stem has stride 1.

    Example:
        >>> regnetx_4gf(num_classes=10, image_size=32).fc.in_features
        1360
    """
    # depth 23, w_0 96, w_a 38.65, w_m 2.43, groups of 40. torchvision's own `from_init_params` rounds the
    # first stage to 120 channels where the published network has 80, so the stages are written out.
    blocks = BlockParams(
        depths=[2, 5, 14, 2],
        widths=[80, 240, 560, 1360],
        group_widths=[40] * 4,
        bottleneck_multipliers=[1.0] * 4,
        strides=[2] * 4,
    )
    net = RegNet(blocks, num_classes)
    small = image_size <= SMALL_IMAGE
    if small or in_channels != 3:
        replace_first_conv(net, in_channels, 1 if small else 2)
    return net
