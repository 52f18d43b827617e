"""Small pieces the models share."""

from torch import nn
from torchvision.ops import Conv2dNormActivation

from snn_lightning.settings import check_choice

SMALL_IMAGE = 64
"""Up to this many pixels a side, a model takes its CIFAR form."""


def conv_bn_relu(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU: to `[N, outputs, H/stride, W/stride]`.

    Example:
        >>> [type(layer).__name__ for layer in conv_bn_relu(3, 8, stride=2)]
        ['Conv2d', 'BatchNorm2d', 'ReLU']
    """
    return Conv2dNormActivation(inputs, outputs, kernel, stride, groups=groups)


def pooling(kind: str) -> nn.Module:
    """A 2x2 pooling with stride 2, `kind` being "average" (which the papers use) or "max".

    Example:
        >>> pooling("average")
        AvgPool2d(kernel_size=2, stride=2, padding=0)
    """
    check_choice("model.pool", kind, ("average", "max"))
    return nn.AvgPool2d(2) if kind == "average" else nn.MaxPool2d(2)


def replace_first_conv(net: nn.Module, in_channels: int, stride: int | None = None) -> None:
    """Replace the first convolution of `net`, in place, by one for `in_channels` (and another stride).

    Args:
        net: any network whose first registered convolution reads the image.
        in_channels: C of the input `[N, C, H, W]`.
        stride: the new stride; None keeps it.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2))
        >>> replace_first_conv(net, in_channels=1, stride=1)
        >>> net[0]
        Conv2d(1, 8, kernel_size=(3, 3), stride=(1, 1))
    """
    name, old = next((name, m) for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride if stride is None else stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    net.set_submodule(name, new)


def initialise(net: nn.Module) -> None:
    """He initialisation of convolutions, small normal weights for linear layers, zero biases.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> initialise(layer)
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
