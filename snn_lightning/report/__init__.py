"""What a run is like, to look at: the page about one spiking network."""

from snn_lightning.report.page import write_report

__all__ = ["write_report"]
