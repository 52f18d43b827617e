"""The gradients of spikes, by a surrogate of their derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.spiking.neurons.dynamics import fewest


def slope(level: Tensor, lowest: Tensor | int, highest: int) -> Tensor:
    """Return the derivative that stands for that of the number of spikes: a triangle for every spike.

    With `lowest` 0 and `highest` 1 it is `max(0, 1 - |level - 1|)`, around the threshold (Bellec et al.
    2018). The steps of a neuron that fires several spikes, or takes some back, lie a threshold apart, and the
    sum of their triangles is 1 from the first step to the last: `clip(min(level - lowest, highest + 1 -
    level), 0, 1)`.

    Args:
        level: the potential before the reset, in thresholds: `v / v_th`.
        lowest: the fewest spikes that the neuron could fire in this time step, or window, 0 or less.
        highest: the most.
    """
    return torch.minimum(level - lowest, highest + 1 - level).clamp_(0, 1)


def gradients(
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    spikes: Tensor,
    to_spikes: Tensor,
    to_end: Tensor,
    static: bool,
    lowest: int,
    highest: int,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the gradients of `kernels.simulate`, backward through all time steps and resets.

    The number of spikes has the derivative `slope`; how much there is to take back, `fired`, passes none.

    Args:
        current, state, v_th, bias, static, lowest, highest: of the simulation.
        spikes: what it returned, `[T, N, C, ...]`.
        to_spikes: their gradient, `[T, N, C, ...]`.
        to_end: that of the potential after the last step, `[N, C, ...]`.

    Returns:
        The gradients of the current at each step, of the potential before the first one and of the threshold,
        `[N, C, ...]` each. That of the bias is the sum of the first over time.
    """
    v, fired = state.unbind(0) if lowest < 0 else (state, None)
    levels, counts = [], []
    for t, spike in enumerate(spikes):
        v = v + ((current if static else current[t]) + bias)
        levels.append(v / v_th)
        counts.append((spike / v_th).round_())
        v = v - spike
    if fired is not None:
        fired = sum(counts, fired)
    to_current: list[Tensor] = []
    # The gradient of the potential after the reset; in the loop, then, before the integration.
    after, to_v_th = to_end, torch.zeros_like(v)
    floor: Tensor | int = 0
    for t in reversed(range(len(spikes))):
        if fired is not None:
            fired = fired - counts[t]
            floor = fewest(fired, lowest)
        inside = slope(levels[t], floor, highest)
        to_spike = to_spikes[t] - after
        to_v_th = to_v_th + to_spike * (counts[t] - inside * levels[t])
        after = torch.addcmul(after, to_spike, inside)
        to_current.insert(0, after)
    return to_current, after, to_v_th
