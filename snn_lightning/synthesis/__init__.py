"""Calibration images made of a trained network, without data and without labels."""

from snn_lightning.synthesis.estimate import Estimate, estimate
from snn_lightning.synthesis.files import ImageFolder
from snn_lightning.synthesis.generate import Source, Synthesiser
from snn_lightning.synthesis.settings import Synthesis
from snn_lightning.synthesis.statistics import ActivationStatistics, capture_statistics

__all__ = [
    "ActivationStatistics",
    "Estimate",
    "ImageFolder",
    "Source",
    "Synthesis",
    "Synthesiser",
    "capture_statistics",
    "estimate",
]
