"""Firing rates and energy of one simulation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from snn_lightning.analysis.energy import EnergyModel, EnergyReport, counted, measure_energy
from snn_lightning.analysis.firing import FiringReport, measure_firing
from snn_lightning.spiking.model import SpikingModel


class Activity(NamedTuple):
    """What a simulation shows of spikes. From `measure_activity`.

    Args:
        firing: the firing rates.
        energy: operations and energy.
    """

    firing: FiringReport
    energy: EnergyReport


@torch.no_grad()
def measure_activity(
    snn: SpikingModel, images: Tensor, *, ann: nn.Module | None = None, model: EnergyModel | None = None
) -> Activity:
    """Simulate `images` once; see `measure_firing` and `measure_energy`.

    Args:
        snn: the spiking network, in eval mode.
        images: `[N, ...]` on its device.
        ann: the network that was converted, or its stages; see `measure_energy`.
        model: the prices of the energy.

    Raises:
        SettingsError: there is no image, or `snn` is no SNN of this ANN.

    Example:
        >>> from snn_lightning import convert
        >>> ann = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(2, 3))
        >>> snn = convert(ann, torch.tensor([[1.0, 1.0]]), timesteps=4)
        >>> activity = measure_activity(snn, torch.tensor([[0.5, 0.5]]))
        >>> activity.firing.sites[0].rate, activity.energy.spikes
        (0.5, 4.0)
    """
    spikes = counted(snn, images)
    energy = measure_energy(snn, images, spikes, ann=ann, model=model)
    return Activity(measure_firing(snn, images, spikes), energy)
