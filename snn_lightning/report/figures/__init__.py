"""Figures, drawn with matplotlib's objects and never with pyplot."""

from snn_lightning.report.figures.accuracy import (
    plot_accuracy,
    plot_accuracy_against_energy,
    plot_accuracy_against_images,
    plot_accuracy_over_time,
)
from snn_lightning.report.figures.errors import plot_channel_errors, plot_site_errors, plot_threshold_errors
from snn_lightning.report.figures.files import save_figure
from snn_lightning.report.figures.rates import plot_firing_rates
from snn_lightning.report.figures.search import plot_search
from snn_lightning.report.figures.time import plot_potentials, plot_spikes

__all__ = [
    "plot_accuracy",
    "plot_accuracy_against_energy",
    "plot_accuracy_against_images",
    "plot_accuracy_over_time",
    "plot_channel_errors",
    "plot_firing_rates",
    "plot_potentials",
    "plot_search",
    "plot_site_errors",
    "plot_spikes",
    "plot_threshold_errors",
    "save_figure",
]
