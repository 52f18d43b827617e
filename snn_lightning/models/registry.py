"""The registry: a model's name and settings in, an `nn.Module` out."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.models.activations import replace_activations
from snn_lightning.models.detection import create_detector, list_detectors
from snn_lightning.models.imported import create_imported_model
from snn_lightning.models.segmentation import create_segmentation_model, list_segmentation_models
from snn_lightning.models.timm_models import create_timm_model, list_timm_models
from snn_lightning.models.torchvision_models import create_torchvision_model, list_torchvision_models
from snn_lightning.plugins import Registry
from snn_lightning.settings import check_whole

Builder = Callable[..., nn.Module]

MODELS: Registry[Builder] = Registry("model")
_COMMON = ("num_classes", "in_channels", "image_size")


def register_model(builder: Builder) -> Builder:
    """Make a function available to `create_model` under its name: a decorator.

    Args:
        builder: a function of the keywords `num_classes`, `in_channels`, `image_size` and its own settings.

    Returns:
        The function, unchanged.

    Raises:
        SettingsError: the name is taken, or a common keyword is missing.

    Example:
        >>> @register_model
        ... def perceptron(*, num_classes, in_channels, image_size):
        ...     return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
        >>> create_model("perceptron", num_classes=10, in_channels=1, image_size=8)[1]
        Linear(in_features=64, out_features=10, bias=True)
    """
    missing = [field for field in _COMMON if field not in inspect.signature(builder).parameters]
    if missing:
        raise SettingsError(
            f"model {builder.__name__!r} can't be registered: it takes no {', '.join(missing)}"
        )
    return MODELS.register(builder)


def list_models(source: str = "snn_lightning") -> list[str]:
    """The names `create_model` knows in a source, sorted; of other packages' those that were imported.

    Args:
        source: `"snn_lightning"`, `"torchvision"`, `"timm"`, `"detection"` or `"segmentation"`.

    Example:
        >>> "resnet20" in list_models()
        True
    """
    if source not in _NAMES:
        raise SettingsError(unknown("source of names", source, _NAMES))
    return _NAMES[source]()


def create_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    source: str = "snn_lightning",
    activation: str | Mapping[str, Any] = "relu",
    **settings: Any,
) -> nn.Module:
    """Build an untrained ANN (or, from torchvision and timm, a trained one if the settings ask for it).

    Args:
        name: one of `list_models(source)`; with `source="import"` what the network is called.
        num_classes: width of the output `[N, num_classes]`.
        in_channels: C of the input `[N, C, H, W]`.
        image_size: H and W of the input, in pixels; it chooses the CIFAR or the ImageNet form of a model.
        source: `"snn_lightning"` (the models of the papers), `"torchvision"` (every classifier there),
            `"timm"`, `"detection"` (see `create_detector`), `"segmentation"` (see
            `create_segmentation_model`), or `"import"` (whatever the setting `target` names; see
            `create_imported_model`).
        activation: what its ReLUs become: "relu", "clipped", "rate_norm" or "qcfs", or one of them with its
            settings, `{"name": "qcfs", "levels": 8}`; see `replace_activations`.
        settings: the model's own settings, such as `width` or `dropout`.

    Returns:
        A module in training mode that `torch.fx` can trace in eval mode.

    Raises:
        SettingsError: an unknown name, source or setting, or a value out of range; it names the field.

    Example:
        >>> import torch
        >>> net = create_model("resnet20", num_classes=10, in_channels=1, image_size=8, width=4)
        >>> net(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    if source not in _SOURCES:
        raise SettingsError(unknown("model.source", source, _SOURCES))
    for field, value in (
        ("num_classes", num_classes),
        ("in_channels", in_channels),
        ("image_size", image_size),
    ):
        check_whole(f"model.{field}", value)
    if source != "import":
        _check_name(name, source)
    net = _SOURCES[source](name, num_classes, in_channels, image_size, settings)
    return replace_activations(net, activation)


def _check_name(name: str, source: str) -> None:
    known = MODELS if source == "snn_lightning" else list_models(source)
    # What follows a dot are timm's weights.
    if (name.partition(".")[0] if source == "timm" else name) in known:
        return
    other = "torchvision" if source == "snn_lightning" else "snn_lightning"
    hint = f"; {other} has one: set model.source={other}" if name in list_models(other) else ""
    raise SettingsError(unknown("model.name", name, known) + hint)


def _create_own_model(
    name: str, num_classes: int, in_channels: int, image_size: int, settings: Mapping[str, Any]
) -> nn.Module:
    builder = MODELS.get(name)
    fields = [field for field in inspect.signature(builder).parameters if field not in _COMMON]
    for field in settings:
        if field not in fields:
            raise SettingsError(unknown(f"setting of model {name!r}", field, fields))
    return builder(num_classes=num_classes, in_channels=in_channels, image_size=image_size, **settings)


_NAMES: dict[str, Callable[[], list[str]]] = {
    "snn_lightning": lambda: sorted(MODELS),
    "torchvision": list_torchvision_models,
    "timm": list_timm_models,
    "detection": list_detectors,
    "segmentation": list_segmentation_models,
}

_SOURCES: dict[str, Builder] = {
    "snn_lightning": _create_own_model,
    "torchvision": create_torchvision_model,
    "timm": create_timm_model,
    "detection": create_detector,
    "segmentation": create_segmentation_model,
    "import": create_imported_model,
}
