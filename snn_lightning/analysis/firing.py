"""How often the channels of each site fire."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_lightning.analysis.energy import counted
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.tables import aligned

SATURATED = 0.95
"""A channel that gives at least this part of its most spikes is saturated."""


@dataclass(frozen=True)
class SiteFiring:
    """Spikes of a site, a neuron and time step, negative ones too; above 1 only for bursts.

    Args:
        name: of the unit.
        rate: mean over its neurons.
        channels: its channels' rates, `[C]`.
        highest: most spikes in one time step.
    """

    name: str
    rate: float
    channels: tuple[float, ...]
    highest: int = 1

    @property
    def silent(self) -> int:
        """Channels that never fire."""
        return sum(rate == 0 for rate in self.channels)

    @property
    def saturated(self) -> int:
        """Channels that fire at nearly every time step, in all positions and on all images."""
        return sum(rate >= SATURATED * self.highest for rate in self.channels)


@dataclass(frozen=True)
class FiringReport:
    """The firing rates of all sites; print it for a table. From `measure_firing`.

    Args:
        sites: in topological order.
        timesteps: T.
        images: how many were simulated.
    """

    sites: tuple[SiteFiring, ...]
    timesteps: int
    images: int

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("site", "rate", "least channel", "most", "channels", "silent", "saturated")
        ]
        for site in self.sites:
            rates = (site.rate, min(site.channels), max(site.channels))
            counts = (len(site.channels), site.silent, site.saturated)
            rows.append((site.name, *(f"{rate:.3f}" for rate in rates), *map(str, counts)))
        return "\n".join(
            [f"Spikes a neuron and time step at T={self.timesteps}, {self.images} images", *aligned(rows)]
        )


@torch.no_grad()
def measure_firing(
    snn: SpikingModel, images: Tensor, spikes: dict[str, Tensor] | None = None
) -> FiringReport:
    """Simulate `images`, and return how often the channels of each site fire.

    Args:
        snn: the spiking network, in eval mode.
        images: `[N, ...]` on its device.
        spikes: that it gave on them, from `counted`; None to simulate now.

    Raises:
        SettingsError: there is no image.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(torch.nn.ReLU(), torch.tensor([[1.0, 1.0, 1.0]]), timesteps=4)
        >>> report = measure_firing(snn, torch.tensor([[0.0, 0.5, 1.0]]))
        >>> report.sites[0].channels, report.sites[0].silent, report.sites[0].saturated
        ((0.0, 0.5, 1.0), 1, 1)
    """
    spikes = counted(snn, images) if spikes is None else spikes
    shown = len(images) * snn.timesteps
    sites = []
    for name, neuron in snn.neurons.items():
        counts = spikes[name]
        channels = counts.reshape(len(counts) if counts.dim() else 1, -1).mean(1) / shown
        sites.append(SiteFiring(name, channels.mean().item(), tuple(channels.tolist()), neuron.highest))
    return FiringReport(tuple(sites), snn.timesteps, len(images))
