"""The version of snn_lightning."""

__version__ = "0.2.0"
