"""The ANNs: those of the papers, torchvision's and timm's by name, and the user's own by dotted path."""

from snn_lightning.models.activations import Clipped, QuantizedClip, RateNorm, replace_activations

from snn_lightning.models.registry import create_model, list_models, register_model  # isort: skip
from snn_lightning.models import mobile, resnet, vgg  # registers them

__all__ = [
    "Clipped",
    "QuantizedClip",
    "RateNorm",
    "create_model",
    "list_models",
    "mobile",
    "register_model",
    "replace_activations",
    "resnet",
    "vgg",
]
