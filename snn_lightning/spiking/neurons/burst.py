"""Neurons that fire several spikes in a time step."""

from __future__ import annotations

from torch import Tensor

from snn_lightning.errors import SettingsError
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
    """

    def __init__(
        self, highest: int, v_th: Tensor | None = None, rounding: str = "potential", timesteps: int = 1
    ) -> None:
        super().__init__(v_th, rounding, timesteps)
        if isinstance(highest, bool) or not isinstance(highest, int) or not 1 <= highest <= LARGEST_BURST:
            raise SettingsError(
                f"spikes must be a whole number from 1 to {LARGEST_BURST} a time step, got {highest!r}"
            )
        self.highest = highest
