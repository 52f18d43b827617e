"""Neurons that gradients pass through, by a surrogate of the spikes' derivative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_lightning.spiking import kernels
from snn_lightning.spiking.kernels import Layout


def slope(level: Tensor, lowest: Tensor | int, highest: int) -> Tensor:
    """Return the derivative that stands for that of the number of spikes: a triangle for every spike.

    With `lowest` 0 and `highest` 1 it is `max(0, 1 - |level - 1|)`, around the threshold (Bellec et al.
    2018). The steps of a neuron that fires several spikes, or takes some back, lie a threshold apart, and the
    sum of their triangles is 1 from the first step to the last: `clip(min(level - lowest, highest + 1 -
    level), 0, 1)`.

    Args:
        level: the potential before the reset, in thresholds: `v / v_th`.
        lowest: the fewest spikes that the neuron could fire in this time step, 0 or less.
        highest: the most.
    """
    return torch.minimum(level - lowest, highest + 1 - level).clamp_(0, 1)


def _fewest(fired: Tensor, lowest: int) -> Tensor:
    """Return the fewest spikes that neurons which have fired `fired` more than taken back can fire now."""
    return fired.clamp(max=-lowest).neg_()


def _reduced(
    to_current: Tensor,
    to_start: Tensor,
    to_v_th: Tensor,
    start: Tensor,
    v_th: Tensor,
    bias: Tensor,
    static: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of current, start, v_th and bias in their shapes, from those of each neuron."""
    over_time = to_current.sum(0)
    return (
        over_time if static else to_current,
        to_start.sum_to_size(start.shape),
        to_v_th.sum_to_size(v_th.shape),
        over_time.sum_to_size(bias.shape),
    )


class _Staircase(torch.autograd.Function):
    """The simulation whose steps from one number of spikes to the next have the slope `slope`."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        start: Tensor,
        v_th: Tensor,
        bias: Tensor,
        fired: Tensor | None,
        steps: int,
        static: bool,
        lowest: int,
        highest: int,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        v = torch.empty_like(current if static else current[0]).copy_(start)
        # In the memory order of the currents: convolutions and sums then need no copies.
        _, spikes = Layout.of(v).empty(v, steps)
        levels = torch.empty_like(spikes)
        for t in range(steps):
            v.add_((current if static else current[t]) + bias)
            torch.div(v, v_th, out=levels[t])
            counts = levels[t].floor().clamp_(lowest, highest)
            if fired is not None:
                counts = torch.maximum(counts, _fewest(fired, lowest))
                fired = fired + counts
            torch.mul(counts, v_th, out=spikes[t])
            v.sub_(spikes[t])
        ctx.save_for_backward(levels, spikes, start, v_th, bias, fired)
        ctx.static, ctx.lowest, ctx.highest = static, lowest, highest
        if fired is not None:
            ctx.mark_non_differentiable(fired)
        return spikes, v, fired

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, at_end: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        levels, spikes, start, v_th, bias, fired = ctx.saved_tensors
        # The gradient of the potential after the reset; in the loop, then, before the integration.
        after = at_end
        to_current = torch.empty_like(levels)
        to_threshold = torch.zeros_like(at_end)
        lowest: Tensor | int = 0
        for t in reversed(range(len(levels))):
            counts = (spikes[t] / v_th).round_()
            if fired is not None:
                fired = fired - counts
                lowest = _fewest(fired, ctx.lowest)
            inside = slope(levels[t], lowest, ctx.highest)
            to_spike = gradient[t] - after
            to_threshold += to_spike * (counts - inside * levels[t])
            after = torch.addcmul(after, to_spike, inside)
            to_current[t] = after
        return *_reduced(to_current, after, to_threshold, start, v_th, bias, ctx.static), *[None] * 5


class _Fused(torch.autograd.Function):
    """`_Staircase` of neurons that fire one spike at most, by the kernels; nothing but its inputs is kept."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(current, start, v_th, bias)
        ctx.steps, ctx.static = steps, static
        current, start, v_th, bias = (x.detach() for x in (current, start, v_th, bias))
        return kernels.simulate(current, start, v_th, bias, steps, static=static)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_spikes: Tensor, to_end: Tensor) -> tuple[Tensor | None, ...]:
        current, start, v_th, bias = (x.detach() for x in ctx.saved_tensors)
        to_current, to_start, to_v_th = kernels.gradients(
            current, start, v_th, bias, ctx.steps, ctx.static, to_spikes, to_end
        )
        return *_reduced(to_current, to_start, to_v_th, start, v_th, bias, ctx.static), None, None


def wanted(*tensors: Tensor) -> bool:
    """Return whether a gradient is to pass from what is computed from `tensors`."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def simulate(
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    *,
    static: bool = False,
    lowest: int = 0,
    highest: int = 1,
) -> tuple[Tensor, Tensor]:
    """Simulate neurons with soft reset so that gradients pass.

    `v += current + bias; n = clip(floor(v / v_th), -min(fired, -lowest), highest); v -= n * v_th; fired +=
    n`: integrate-and-fire (PC eq. 2-4) by default, `SignedNeuron` with `lowest` -1, `BurstNeuron` with
    `highest` above 1. Forward it is what they do; backward, through all time steps and resets, n has the
    derivative `slope`. How much there is to take back, `fired`, passes no gradient.

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        state: potential before the first step, broadcastable against `[N, C, ...]`; where `lowest` is below
            0, that and the net number of spikes fired, `[2, ...]`.
        v_th: threshold, broadcastable against `[C, ...]`, activation units.
        bias: added to the current at every step, broadcastable against `[C, ...]`.
        steps: T.
        static: the same current comes at every step.
        lowest: the fewest spikes in one time step, 0 or less.
        highest: the most.

    Returns:
        Spikes `[T, N, C, ...]` with values `n * v_th`, and the state after the last step; gradients go from
        both to the first four arguments.
    """
    inputs = (current, state, v_th, bias)
    if (lowest, highest) == (0, 1) and kernels.can_differentiate(*(x.detach() for x in inputs)):
        return _Fused.apply(current, state, v_th, bias, steps, static)
    start, fired = state.unbind(0) if lowest < 0 else (state, None)
    spikes, end, fired = _Staircase.apply(current, start, v_th, bias, fired, steps, static, lowest, highest)
    return spikes, end if fired is None else torch.stack([end, fired])
