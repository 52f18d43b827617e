"""How the firing threshold of a site is found from the ANN's activations."""

from snn_lightning.thresholds.histogram import Histogram, histogram, row_maximum
from snn_lightning.thresholds.settings import (
    MMSE,
    Cap,
    Max,
    Percentile,
    Threshold,
    positive,
    register_threshold,
    squared_errors,
)

__all__ = [
    "MMSE",
    "Cap",
    "Histogram",
    "Max",
    "Percentile",
    "Threshold",
    "histogram",
    "positive",
    "register_threshold",
    "row_maximum",
    "squared_errors",
]
