"""Pretraining of the ANNs: the LightningModule, and the cache of trained weights."""

from snn_lightning.training.checkpoints import load_weights
from snn_lightning.training.classification import ClassificationModule
from snn_lightning.training.detection import LitDetector
from snn_lightning.training.finetune import FineTuning
from snn_lightning.training.pretrain import Pretrained, fingerprint, load_or_train, pretrained_path
from snn_lightning.training.segmentation import LitSegmenter
from snn_lightning.training.task import TaskModule

__all__ = [
    "ClassificationModule",
    "FineTuning",
    "LitDetector",
    "LitSegmenter",
    "Pretrained",
    "TaskModule",
    "fingerprint",
    "load_or_train",
    "load_weights",
    "pretrained_path",
]
