"""The modules of torch that a network takes over as they are, and their traits."""

from __future__ import annotations

from torch import nn

from snn_lightning.graph.operators.table import add_operator
from snn_lightning.graph.operators.traits import (
    AdaptiveAveragePooling,
    AveragePooling,
    Flattening,
    Pooling,
    Traits,
)

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

_SIZES = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

LINEAR = Traits(("in_features", "out_features"), weighted=True, channels_lead=True, fresh=True)
_CONVOLUTION = Traits(
    (*_SIZES, "dilation", "groups", "padding_mode"), weighted=True, channels_lead=True, fresh=True
)
_TRANSPOSED = Traits((*_SIZES, "output_padding", "groups", "dilation"), weighted=True, fresh=True)


def _pools(dims: int) -> dict[type[nn.Module], Traits]:
    average, adaptive = getattr(nn, f"AvgPool{dims}d"), getattr(nn, f"AdaptiveAvgPool{dims}d")
    divisor = () if dims == 1 else ("divisor_override",)
    return {
        average: AveragePooling((*_AVERAGE, *divisor), pools="average"),
        adaptive: AdaptiveAveragePooling(("output_size",), pools="average"),
        getattr(nn, f"MaxPool{dims}d"): Pooling(_MAX, linear=False, pools="max", average=average),
        getattr(nn, f"AdaptiveMaxPool{dims}d"): Pooling(
            ("output_size",), linear=False, pools="max", average=adaptive
        ),
    }


MODULES: dict[type[nn.Module], Traits] = {
    **dict.fromkeys(CONVOLUTIONS, _CONVOLUTION),
    **dict.fromkeys(TRANSPOSED, _TRANSPOSED),
    nn.Linear: LINEAR,
    **_pools(1),
    **_pools(2),
    **_pools(3),
    nn.Flatten: Flattening(("start_dim", "end_dim"), moves=True),
    nn.Upsample: Traits(("size", "scale_factor", "mode", "align_corners")),
    nn.PixelShuffle: Traits(("upscale_factor",), moves=True),
    nn.PixelUnshuffle: Traits(("downscale_factor",), moves=True),
    nn.ChannelShuffle: Traits(("groups",), moves=True),
}

for _module, _traits in MODULES.items():
    add_operator(_module, _traits)


def groups_of(synapse: nn.Module) -> int:
    """Return the groups of a convolution; a linear layer has one.

    Example:
        >>> groups_of(nn.Conv2d(4, 4, 3, groups=2)), groups_of(nn.Linear(2, 3))
        (2, 1)
    """
    return int(getattr(synapse, "groups", 1))
