"""Runs side by side: tables, charts and a page about what `calibrate.py` has left in folders."""

from snn_lightning.report.compare.methods import panels
from snn_lightning.report.compare.runs import find_runs

__all__ = ["find_runs", "panels"]
