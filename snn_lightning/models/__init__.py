"""The ANNs: those of the papers, and torchvision's classifiers by name."""

from snn_lightning.models.registry import create_model, list_models, register_model  # isort: skip
from snn_lightning.models import mobile, resnet, vgg  # registers them

__all__ = ["create_model", "list_models", "mobile", "register_model", "resnet", "vgg"]
