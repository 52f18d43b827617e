"""LightningDataModules whose `calibration_dataloader()` is deterministic and free of augmentation."""

from snn_lightning.data.cifar import CIFAR10, CIFAR100
from snn_lightning.data.coco import CocoDetection
from snn_lightning.data.datamodule import ImageDataModule
from snn_lightning.data.digits import Digits
from snn_lightning.data.fashion_mnist import FashionMNIST
from snn_lightning.data.folder import Folder
from snn_lightning.data.imagenet import ImageNet
from snn_lightning.data.settings import DataSettings
from snn_lightning.data.shapes import Shapes

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CocoDetection",
    "DataSettings",
    "Digits",
    "FashionMNIST",
    "Folder",
    "ImageDataModule",
    "ImageNet",
    "Shapes",
]
