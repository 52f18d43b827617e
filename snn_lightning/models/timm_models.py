"""timm's models by name, for any number of input channels."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from snn_lightning.errors import SettingsError


def list_timm_models() -> list[str]:
    """Every architecture of timm, without the tags of its weights.

    Example:
        >>> "resnet18" in list_timm_models()  # doctest: +SKIP
        True
    """
    return sorted(_timm().list_models())


def create_timm_model(
    name: str, num_classes: int, in_channels: int, image_size: int, settings: Mapping[str, Any]
) -> nn.Module:
    """Build one of timm's models.

    Args:
        name: one of `list_timm_models()`, maybe with a tag, "resnet18.a1_in1k".
        num_classes: width of the output `[N, num_classes]`.
        in_channels: C of the input `[N, C, H, W]`.
        image_size: H and W in pixels; most models need not know, the others take it as a setting, `img_size`.
        settings: timm's own keywords; without `pretrained=True` nothing is downloaded.

    Raises:
        SettingsError: timm isn't installed, or refuses a setting.

    Example:
        >>> net = create_timm_model("resnet18", 10, 1, 32, {"drop_rate": 0.1})  # doctest: +SKIP
    """
    keywords = {"pretrained": False, **settings}
    try:
        return _timm().create_model(name, num_classes=num_classes, in_chans=in_channels, **keywords)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingsError(f"timm's {name!r} refuses the settings {dict(settings)}: {error}") from error


def _timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise SettingsError(
            "model=timm needs the package timm, which isn't installed: pip install snn_lightning[timm]"
        ) from error
    return timm
