"""The ANNs: those of the papers, torchvision's and timm's by name, and the user's own by dotted path."""

from snn_lightning.models.activations import Clipped, QuantizedClip, RateNorm, replace_activations

from snn_lightning.models.registry import create_model, list_models, register_model  # isort: skip
from snn_lightning.models import mnasnet, mobilenet, regnet, resnet, vgg  # registers them

__all__ = [
    "Clipped",
    "QuantizedClip",
    "RateNorm",
    "create_model",
    "list_models",
    "mnasnet",
    "mobilenet",
    "register_model",
    "regnet",
    "replace_activations",
    "resnet",
    "vgg",
]
