"""Figures of firing rates."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from snn_lightning.errors import SettingsError
from snn_lightning.report.style import label_sites, looks, panels, site_size, styled


def plot_firing_rates(rates: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the firing rate of each site (PC Fig. 6).

    Args:
        rates: by the SNN's label, such as "lcp", the `firing_rates` of its `EnergyReport`: by site, spikes a
            neuron and time step.

    Raises:
        SettingsError: there is none, or the SNNs have different sites.

    Example:
        >>> figure = plot_firing_rates({"lcp": {"relu": 0.1, "relu_1": 0.05}})
        >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
        [0.1, 0.05]
    """
    if not rates or not all(rates.values()):
        raise SettingsError("plot_firing_rates needs at least one SNN with at least one site")
    names = list(next(iter(rates.values())))
    for label, sites in rates.items():
        if list(sites) != names:
            raise SettingsError(f"The sites of '{label}' are others than those of '{next(iter(rates))}'")
    with styled():
        figure, (axis,) = panels(*site_size(names, 3.9))
        width = 0.8 / len(rates)
        for number, ((colour, _), label) in enumerate(zip(looks(len(rates)), rates, strict=True)):
            places = [place + (number - (len(rates) - 1) / 2) * width for place in range(len(names))]
            axis.bar(places, list(rates[label].values()), width, color=colour, label=label)
        axis.set_ylabel("firing rate\n(spikes a neuron and time step)")
        axis.set_xlabel("site")
        axis.set_xlim(-0.6, len(names) - 0.4)
        label_sites(axis, names, [float(place) for place in range(len(names))])
        if len(rates) > 1:
            axis.legend()
    return figure
