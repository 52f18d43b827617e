"""Calibration as a Lightning callback."""

from snn_lightning.callbacks.calibration import CalibrationCallback
from snn_lightning.callbacks.loggers import log_report

__all__ = ["CalibrationCallback", "log_report"]
