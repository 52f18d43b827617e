"""Calibration as a Lightning callback."""

from snn_lightning.callbacks.calibration import CalibrationCallback

__all__ = ["CalibrationCallback"]
