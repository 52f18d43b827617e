"""The greedy walk, its cache, and one file for each thing it calibrates."""

from snn_lightning.calibration.api import calibrate, convert
from snn_lightning.calibration.pipelines import ACP, LCP, Baseline, Bias, Pipeline, Potential, Weights

__all__ = ["ACP", "LCP", "Baseline", "Bias", "Pipeline", "Potential", "Weights", "calibrate", "convert"]
