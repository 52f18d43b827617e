"""Runs side by side: tables, charts and a page about what `calibrate.py` has left in folders."""
