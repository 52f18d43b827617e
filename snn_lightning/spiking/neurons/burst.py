"""Neurons that fire several spikes in a time step."""

from __future__ import annotations

from torch import Tensor

from snn_lightning.settings import check_whole
from snn_lightning.spiking.neurons.staircase import StaircaseNeuron

LARGEST_BURST = 127
"""What a byte holds."""


class BurstNeuron(StaircaseNeuron):
    """Neurons that fire up to so many spikes in one time step.

    `v += current + bias; n = clip(floor(v / v_th), 0, highest); v -= n * v_th`, from `v = v_init` (burst
    spikes: Li and Zeng, "Efficient and accurate conversion of SNN with burst spikes", IJCAI 2022). Its rate
    goes up to `highest * v_th`.

    Args:
        highest: spikes a time step.
        v_th, rounding, timesteps: see `IFNeuron`.

    Example:
        >>> import torch
        >>> neuron = BurstNeuron(highest=3, rounding="floor")
        >>> neuron(torch.tensor([[2.5]]), None, steps=2, static=True)[0].flatten()
        tensor([2., 3.])
    """

    def __init__(
        self, highest: int, v_th: Tensor | None = None, rounding: str = "potential", timesteps: int = 1
    ) -> None:
        super().__init__(v_th, rounding, timesteps)
        check_whole("spikes a time step", highest, most=LARGEST_BURST)
        self.highest = highest
