"""How many spikes an SNN gives on images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from snn_lightning.errors import SettingsError
from snn_lightning.graph.operators import traits_of
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.neurons.temporal_switch import TOLERANCE, SwitchNeuron, switches
from snn_lightning.spiking.packing import multiples
from snn_lightning.spiking.units import GatedMaxPool


@torch.no_grad()
def counted(snn: SpikingModel, images: Tensor) -> dict[str, Tensor]:
    """Simulate `images`, and return how many spikes each neuron, gate and max pool gives.

    Args:
        snn: the spiking network, in eval mode.
        images: `[N, ...]` on its device.

    Returns:
        By name the sum over images and time steps, `[C, ...]`, float64.

    Raises:
        SettingsError: there is no image.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(nn.ReLU(), torch.tensor([[1.0, 1.0]]), timesteps=4)
        >>> counted(snn, torch.tensor([[0.5, 0.75]]))["relu"]
        tensor([2., 3.], dtype=torch.float64)
    """
    if len(images) == 0:
        raise SettingsError("There are no images to simulate, and spikes are counted on at least one")
    counts: dict[str, Tensor] = {}
    windowed = any(unit.windowed for unit in snn.neurons.values())
    switched = any(isinstance(unit, SwitchNeuron) for unit in snn.neurons.values())
    at_once = snn.timesteps if windowed else 1

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        def count(module: nn.Module, args: Any, output: Any) -> None:
            # A unit gives its output over time and its state, an operator [T * N, ...].
            values = output[0] if isinstance(output, tuple) else output.unflatten(0, (at_once, -1))
            spikes = switches(values) if switched else spikes_in(values, module)
            spikes = spikes.sum((0, 1), dtype=torch.float64)
            counts[name] = counts[name] + spikes if name in counts else spikes

        return module.register_forward_hook(count)

    network = snn.network
    pools = {
        name: module
        for name, module in network.operators.items()
        if traits_of(module).pools == "max" and name in network.temporal
    }
    units = {n: u for n, u in snn.units.items() if isinstance(u, IFNeuron | GatedMaxPool)}
    handles = [watch(name, module) for name, module in {**pools, **units}.items()]
    try:
        # Where calling it would simulate means, the spikes in time.
        snn.running_mean(images) if windowed else snn(images)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def spikes_in(values: Tensor, source: nn.Module) -> Tensor:
    """Return the number of spikes, negative ones too, in what `source` gave over time, `[T, N, C, ...]`.

    Example:
        >>> train = torch.tensor([0.0, 2.0, -2.0]).view(3, 1, 1)
        >>> spikes_in(train, IFNeuron(torch.tensor(2.0))).flatten()
        tensor([0., 1., 1.])
    """
    if isinstance(source, IFNeuron):
        return (values / per_channel(source.v_th, values[0])).round_().abs_()
    # Behind a neuron they are multiples of its threshold; of what was pooled before each value is a spike.
    largest = values.abs().amax() if values.numel() else 0.0
    values = values.where(values.abs() > TOLERANCE * largest, torch.zeros_like(values))
    found = multiples(values, TOLERANCE)
    return (found[0] if found is not None else values.sign()).abs()
