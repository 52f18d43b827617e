"""What the errors of single sites do to the output, predicted and measured."""

from snn_lightning.analysis.sensitivity.measurement import measured_effect, replacing
from snn_lightning.analysis.sensitivity.prediction import (
    ORDERS,
    SensitivityReport,
    SiteSensitivity,
    sensitivity,
)
from snn_lightning.analysis.sensitivity.setting import analog_setting

__all__ = [
    "ORDERS",
    "SensitivityReport",
    "SiteSensitivity",
    "analog_setting",
    "measured_effect",
    "replacing",
    "sensitivity",
]
