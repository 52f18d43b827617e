"""Membrane potentials over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.dynamics import per_channel


@dataclass(frozen=True)
class PotentialTraces:
    """Some neurons of a site over time, activation units. From `membrane_potentials`.

    Args:
        site: its name.
        neurons: places of the neurons in the site's flattened activation.
        before: potential when the current has come, before a spike is taken off, `[T, n]`.
        after: potential after it, `[T, n]`.
        start: potential before the first time step, `[n]`.
        threshold: `[n]`.
    """

    site: str
    neurons: tuple[int, ...]
    before: Tensor
    after: Tensor
    start: Tensor
    threshold: Tensor

    @property
    def spikes(self) -> Tensor:
        """The spikes, in thresholds, `[T, n]`: whole numbers."""
        return ((self.before - self.after) / self.threshold).round()


@torch.no_grad()
def membrane_potentials(
    snn: SpikingModel, image: Tensor, site: str, neurons: Sequence[int] = (0, 1, 2)
) -> PotentialTraces:
    """Simulate one image, and return the membrane potentials of some neurons (PC eq. 2-4).

    Args:
        snn: the spiking network, in eval mode.
        image: `[1, ...]` on its device.
        site: name of the site.
        neurons: places in its activation, flattened `[C * ...]`.

    Raises:
        SettingsError: there is not one image, no such site or neuron, or the neurons wait for all time steps
            of their input.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=2)
        >>> traces = membrane_potentials(snn, torch.tensor([[0.75]]), "relu", neurons=[0])
        >>> traces.before.flatten(), traces.after.flatten()
        (tensor([1.2500, 1.0000]), tensor([0.2500, 0.0000]))
    """
    if len(image) != 1:
        raise SettingsError(f"membrane_potentials takes one image [1, ...], got {len(image)}")
    if site not in snn.neurons:
        raise SettingsError(unknown("site", site, snn.neurons))
    unit = snn.neurons[site]
    if unit.windowed:
        raise SettingsError(f"Neurons {snn.neuron!r} have no membrane potential at every time step")
    parts: list[tuple[Tensor, Tensor]] = []

    def received(unit: nn.Module, args: Any) -> None:
        current, _, steps, static = args
        parts.append((current.expand(steps, *current.shape) if static else current.clone(), current))

    def given(unit: nn.Module, args: Any, output: Any) -> None:
        parts[-1] = (parts[-1][0], output[0].clone())

    handles = unit.register_forward_pre_hook(received), unit.register_forward_hook(given)
    try:
        snn(image)
    finally:
        for handle in handles:
            handle.remove()
    current, spikes = (torch.cat(values) for values in zip(*parts, strict=True))
    _check(neurons, current[0].numel(), site)
    v_th, start, bias = (
        per_channel(value, current[0]).expand_as(current[0]) for value in (unit.v_th, unit.v_init, unit.bias)
    )
    chosen = torch.tensor(list(neurons), device=current.device)
    after = start + (current + bias - spikes).cumsum(0)
    before = after + spikes
    return PotentialTraces(
        site,
        tuple(neurons),
        *(values.flatten(1)[:, chosen].cpu() for values in (before, after)),
        *(values.flatten()[chosen].cpu() for values in (start, v_th)),
    )


def _check(neurons: Sequence[int], count: int, site: str) -> None:
    bad = [n for n in neurons if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < count]
    if bad or not neurons:
        raise SettingsError(
            f"neurons must be whole numbers from 0 to {count - 1}, which '{site}' has, got {bad or 'none'}"
        )
