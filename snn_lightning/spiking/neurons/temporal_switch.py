"""Neurons that say a number by how long they are switched on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snn_lightning.spiking.neurons.parallel import ParallelNeuron
from snn_lightning.spiking.units import Emission, State

TOLERANCE = 1e-4
"""Of a gate's sums, over a spike."""


class SwitchNeuron(ParallelNeuron):
    """Neurons that say a number by how long they are switched on, with two spikes at most (Han and Roy 2020).

    `v = v_init + sum over T steps of (current + bias); n = clip(floor(v / v_th), 0, T)`: in the T time steps
    that follow, the neuron sends a spike at the first to switch its synapses on, and a negative one n steps
    later to switch them off. What a synapse gets from its spikes `σ(t)` is `w v_th on(t)` with `on(t) = on(t
    - 1) + σ(t)`, so that in all a spike counts for the time that is left after it:
    `sum_t on(t) = sum_t σ(t) (T + 1 - t)` = n.

    The neuron's output here is `v_th on(t)`, which are the spikes of a `ParallelNeuron`. As there, every
    layer's time starts anew with its own T steps: an inference takes T steps for every layer, one after the
    other.

    Example:
        >>> neuron = SwitchNeuron(rounding="floor")
        >>> neuron(torch.tensor([[0.5]]), None, steps=4, static=True)[0].sum()
        tensor(2.)
    """

    def emit(
        self, current: Tensor, state: State, steps: int, static: bool = False, keep: bool = True
    ) -> Emission:
        """Return what `ParallelNeuron.emit` does, but for the spikes: two where the neuron is on."""
        emission = super().emit(current, state, steps, static, keep)
        return replace(emission, counts=2 * emission.total.sign())


def switches(output: Tensor) -> Tensor:
    """Return the spikes, negative ones too, that switch an output on and off.

    Args:
        output: values over time, `[T, N, ...]`; 0 before and after.

    Returns:
        1 where it changes and else 0, `[T + 1, N, ...]`.
    """
    edge = torch.zeros_like(output[:1])
    change = output.diff(dim=0, prepend=edge, append=edge).abs()
    # The sums of a gate differ by rounding.
    return (change > TOLERANCE * change.amax()).to(output.dtype) if change.numel() else change
