"""What runs have come to, to look at: figures, the page about one spiking network, and runs side by side."""

from snn_lightning.report.detections import plot_detections
from snn_lightning.report.figures import (
    plot_accuracy,
    plot_accuracy_against_energy,
    plot_accuracy_against_images,
    plot_accuracy_over_time,
    plot_channel_errors,
    plot_firing_rates,
    plot_potentials,
    plot_search,
    plot_site_errors,
    plot_spikes,
    plot_threshold_errors,
    save_figure,
)
from snn_lightning.report.masks import plot_masks
from snn_lightning.report.page import write_report

__all__ = [
    "plot_accuracy",
    "plot_accuracy_against_energy",
    "plot_accuracy_against_images",
    "plot_accuracy_over_time",
    "plot_channel_errors",
    "plot_detections",
    "plot_firing_rates",
    "plot_masks",
    "plot_potentials",
    "plot_search",
    "plot_site_errors",
    "plot_spikes",
    "plot_threshold_errors",
    "save_figure",
    "write_report",
]
