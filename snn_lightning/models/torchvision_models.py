"""torchvision's classifiers by name, for any number of input channels."""

from collections.abc import Mapping
from typing import Any

import torchvision
from torch import nn

from snn_lightning.errors import SettingsError
from snn_lightning.models.layers import replace_first_conv


def list_torchvision_models() -> list[str]:
    """Every classification builder of torchvision (neither detection nor segmentation nor video).

    Example:
        >>> "resnet18" in list_torchvision_models()
        True
    """
    return sorted(torchvision.models.list_models(module=torchvision.models))


def create_torchvision_model(
    name: str, num_classes: int, in_channels: int, image_size: int, settings: Mapping[str, Any]
) -> nn.Module:
    """Build one of torchvision's classifiers without auxiliary outputs.

    Args:
        name: one of `list_torchvision_models()`.
        num_classes: width of the output `[N, num_classes]`.
        in_channels: C of the input `[N, C, H, W]`; other than 3, the first convolution is replaced.
        image_size: H and W in pixels; only transformers must know it.
        settings: the builder's own keywords; `weights` (None, "DEFAULT" or a name) loads trained weights.

    Raises:
        SettingsError: trained weights are asked for with other channels or classes than theirs, or the
            builder refuses a setting.

    Example:
        >>> net = create_torchvision_model("squeezenet1_1", 10, 1, 64, {"dropout": 0.1})
        >>> net.features[0].in_channels
        1
    """
    kwargs: dict[str, Any] = {"weights": None, **settings, "num_classes": num_classes}
    trained = kwargs["weights"] is not None
    if trained and in_channels != 3:
        raise SettingsError(
            f"model.weights={kwargs['weights']!r} were trained with 3 channels and the data have "
            f"{in_channels}: set model.weights=null, or data.in_channels=3"
        )
    if name in ("googlenet", "inception_v3"):
        kwargs.setdefault("aux_logits", False)
        if not trained:
            kwargs.setdefault("init_weights", False)
    if name.startswith("vit_"):
        kwargs.setdefault("image_size", image_size)
    try:
        net = torchvision.models.get_model(name, **kwargs)
    except (TypeError, ValueError, KeyError) as error:
        raise SettingsError(
            f"torchvision's {name!r} refuses the settings {dict(settings)}: {error}"
        ) from error
    if in_channels != 3:
        replace_first_conv(net, in_channels)
    return net
