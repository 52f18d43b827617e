"""The greedy walk, its cache, and one file for each thing it calibrates."""

from snn_lightning.calibration.api import calibrate, convert
from snn_lightning.calibration.pipelines import ACP, LCP, Baseline, Bias, Pipeline, Potential, Step, Weights
from snn_lightning.calibration.steps import register_step

__all__ = [
    "ACP",
    "LCP",
    "Baseline",
    "Bias",
    "Pipeline",
    "Potential",
    "Step",
    "Weights",
    "calibrate",
    "convert",
    "register_step",
]
