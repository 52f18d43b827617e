"""The errors users meet; every message names the thing and the remedy."""

from collections.abc import Sequence


class SNNLightningError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConversionError(SNNLightningError):
    """The ANN has something that can't be turned into a spiking network.

    Attributes:
        obstacles: every operator that stands in the way, where that is the reason.
    """

    def __init__(self, message: str, obstacles: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.obstacles = list(obstacles)


class CalibrationError(SNNLightningError):
    """Calibration can't go on: bad data, bad settings, or values that are not finite."""


class CheckpointError(SNNLightningError):
    """A checkpoint is missing, damaged, of another model, or could not be written."""


class SettingsError(SNNLightningError, ValueError):
    """A setting has a value that makes no sense; the message names the field."""
