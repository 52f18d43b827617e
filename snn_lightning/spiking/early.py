"""Reading a spiking network before its last time step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from snn_lightning.errors import SettingsError
from snn_lightning.settings import check_whole
from snn_lightning.spiking.model import SpikingModel


@contextmanager
def stopped_after(module: nn.Module, t: int) -> Iterator[None]:
    """Let every spiking network inside `module` give its mean readout after t time steps of its last window.

    The code around it runs as ever, so that a detector's boxes can be had for each t; `running_mean` and
    `step` of the networks are not concerned.

    Args:
        module: a spiking network, or a model with some in it.
        t: 1...T.

    Raises:
        SettingsError: T of one of them is smaller.

    Example:
        >>> import torch
        >>> from snn_lightning import convert
        >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=4)
        >>> with stopped_after(snn, 2):
        ...     snn(torch.tensor([[0.25]]))
        tensor([[0.5000]])
    """
    check_whole("t", t)
    networks = [part for part in module.modules() if isinstance(part, SpikingModel)]
    for network in networks:
        if network.timesteps < t:
            raise SettingsError(f"A network of T={network.timesteps} has no time step {t}: choose at most T")
    before = [network.last_step for network in networks]
    try:
        for network in networks:
            network.last_step = t
        yield
    finally:
        for network, last_step in zip(networks, before, strict=True):
            network.last_step = last_step
