"""Neurons that take spikes back."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.spiking.neurons.staircase import StaircaseNeuron


class SignedNeuron(StaircaseNeuron):
    """Neurons that take spikes back: spikes are {-1, 0, 1} times v_th.

    `v += current + bias; n = (v >= v_th) - (v < 0 and fired > 0); v -= n * v_th; fired += n`, from
    `v = v_init` and `fired = 0`. A neuron never takes back more than it has fired: its rate is 0 or more. At
    a constant current it fires as an `IFNeuron` does; where the current comes unevenly, spikes that were
    fired too early are taken back (negative spikes with a memory: Wang et al., "Signed neuron with memory",
    IJCAI 2022).

    Its state is potential and net number of spikes, `[2, N, C, ...]`.

    Example:
        >>> current = torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1)
        >>> SignedNeuron()(current, None, steps=3)[0].flatten()  # it takes back no more than it has fired
        tensor([ 1., -1.,  0.])
    """

    lowest = -1

    def begin(self, start: Tensor) -> Tensor:
        """See `IFNeuron.begin`."""
        return torch.stack([start, torch.zeros_like(start)])
