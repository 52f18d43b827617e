"""torchvision's networks for semantic segmentation, on torchvision's ResNets and MobileNets."""

from collections.abc import Mapping
from typing import Any

import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import FCN, LRASPP, DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.settings import check_choice, check_whole

_STAGES = {8: "layer2", 16: "layer3", 32: "layer4"}
"""What of a ResNet ends at a stride, where nothing is dilated."""

_BASIC = ("resnet18", "resnet34")
"""ResNets whose blocks can't be dilated."""

_MOBILENETS = ("mobilenet_v3_large", "mobilenet_v3_small")
_BACKBONES = (*_BASIC, "resnet50", "resnet101", "resnet152", *_MOBILENETS)

_COMMON = {"stride": None, "weights": None, "weights_backbone": None}
_SETTINGS: dict[str, dict[str, Any]] = {
    "fcn": {"backbone": "resnet50", **_COMMON},
    "deeplabv3": {"backbone": "resnet50", **_COMMON, "atrous_rates": (12, 24, 36)},
    "lraspp": {"backbone": "mobilenet_v3_large", **_COMMON},
}


def list_segmentation_models() -> list[str]:
    """The names of the source "segmentation".

    Example:
        >>> list_segmentation_models()
        ['deeplabv3', 'fcn', 'lraspp']
    """
    return sorted(_SETTINGS)


def create_segmentation_model(
    name: str, num_classes: int, in_channels: int, image_size: int, settings: Mapping[str, Any]
) -> nn.Module:
    """Build a network that gives `{"out": [N, num_classes, H, W]}`; it has no auxiliary classifier.

    The settings are `backbone`, a ResNet or MobileNetV3 of torchvision's (LRASPP takes the latter); `stride`
    of the features, 8, 16 or 32 pixels, None for torchvision's (8 of ResNets, 16 of MobileNets); `weights` of
    the whole network and `weights_backbone`, None, "DEFAULT" or a name of torchvision's trained weights; and
    DeepLabV3's `atrous_rates`. Dilation makes strides small. ResNet-18 and 34 can't be dilated: what lies
    behind the stride is left out of them.

    Args:
        name: "fcn", "deeplabv3" or "lraspp".
        num_classes: K, the background among them.
        in_channels: C of the input `[N, C, H, W]`, 3.
        image_size: H and W in pixels; the network takes any.
        settings: see above.

    Raises:
        SettingsError: an unknown setting, settings that don't go together, or other channels.

    Example:
        >>> import torch
        >>> net = create_segmentation_model("fcn", 6, 3, 64, {"backbone": "resnet18", "stride": 16})
        >>> net(torch.rand(2, 3, 64, 64))["out"].shape
        torch.Size([2, 6, 64, 64])
    """
    for field in settings:
        if field not in _SETTINGS[name]:
            raise SettingsError(unknown(f"setting of model {name!r}", field, _SETTINGS[name]))
    chosen = {**_SETTINGS[name], **settings}
    if in_channels != 3:
        raise SettingsError(
            f"model {name!r} takes images of 3 channels and the data have {in_channels}: set "
            "data.in_channels=3, or choose data in colour"
        )
    check_choice("model.backbone", chosen["backbone"], _MOBILENETS if name == "lraspp" else _BACKBONES)
    weights = _trained_weights(name, chosen, num_classes)
    features, channels = _features(name, chosen)
    net: nn.Module
    if name == "fcn":
        net = FCN(features, FCNHead(channels[-1], num_classes))
    elif name == "deeplabv3":
        net = DeepLabV3(features, DeepLabHead(channels[-1], num_classes, _rates(chosen["atrous_rates"])))
    else:
        net = LRASPP(features, *channels, num_classes)
    if weights is not None:
        state = weights.get_state_dict(progress=False, check_hash=True)
        net.load_state_dict({key: v for key, v in state.items() if not key.startswith("aux_classifier.")})
    return net


def _trained_weights(name: str, chosen: Mapping[str, Any], num_classes: int) -> Any:
    """Return torchvision's weights of the whole network, None if none are wanted.

    Raises:
        SettingsError: there are none of that name, or they are of other classes.
    """
    if chosen["weights"] is None:
        return None
    network = f"{name}_{chosen['backbone']}"
    known = torchvision.models.list_models(module=torchvision.models.segmentation)
    if network not in known:
        raise SettingsError(
            f"model.weights: torchvision has none of {network}, only of {', '.join(known)}: set "
            "model.weights=null, and maybe model.weights_backbone=DEFAULT"
        )
    kind = torchvision.models.get_model_weights(network)
    check_choice("model.weights", chosen["weights"], tuple(kind.__members__))
    weights = kind[chosen["weights"]]
    if (classes := len(weights.meta["categories"])) != num_classes:
        raise SettingsError(
            f"model.weights={chosen['weights']!r} are for {classes} classes and the data have {num_classes}: "
            "set model.weights=null, and maybe model.weights_backbone=DEFAULT"
        )
    return weights


def _features(name: str, chosen: Mapping[str, Any]) -> tuple[IntermediateLayerGetter, list[int]]:
    """Return the backbone, and the channels of the features that it gives."""
    backbone, stride = chosen["backbone"], chosen["stride"]
    mobile = backbone in _MOBILENETS
    stride = (16 if mobile else 8) if stride is None else stride
    strides = (16, 32) if mobile else tuple(_STAGES)
    if stride not in strides:
        raise SettingsError(f"model.stride of {backbone} must be one of {strides}, got {stride!r}")
    options: dict[str, Any] = {"weights": None if chosen["weights"] else chosen["weights_backbone"]}
    if mobile:
        options["dilated"] = stride == 16
    elif backbone not in _BASIC:
        options["replace_stride_with_dilation"] = [False, stride < 16, stride < 32]
    try:
        net = torchvision.models.get_model(backbone, **options)
    except (ValueError, KeyError) as error:
        weights = chosen["weights_backbone"]
        raise SettingsError(f"model.weights_backbone: {backbone} has no {weights!r}: {error}") from error
    if not mobile:
        last = _STAGES[stride] if backbone in _BASIC else "layer4"
        convolutions = [part for part in getattr(net, last).modules() if isinstance(part, nn.Conv2d)]
        return IntermediateLayerGetter(net, {last: "out"}), [convolutions[-1].out_channels]
    blocks = list(net.features)
    layers = {len(blocks) - 1: "out"}
    if name == "lraspp":
        # The low features have stride 8: two more blocks halve the resolution, or would without dilation.
        strided = [position for position, block in enumerate(blocks) if getattr(block, "_is_cn", False)]
        layers = {strided[-3]: "low", len(blocks) - 1: "high"}
    channels = [int(blocks[position].out_channels) for position in layers]
    return IntermediateLayerGetter(net.features, {str(p): key for p, key in layers.items()}), channels


def _rates(value: Any) -> list[int]:
    rates = list(value) if isinstance(value, list | tuple) else []
    for rate in rates:
        check_whole("model.atrous_rates", rate)
    if len(rates) != 3:
        raise SettingsError(f"model.atrous_rates must be three whole numbers, got {value!r}")
    return rates
