"""Pure tensor maths of integrate-and-fire neurons, simulated and on average."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROUNDINGS = ("potential", "bias", "floor")


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Shape a neuron's parameter so that it broadcasts over activations.

    Args:
        values: `[]`, `[C]` or one value a neuron `[C, ...]`.
        like: activations `[N, C, ...]`.

    Returns:
        A view that broadcasts against `like`.
    """
    if values.dim() == 1 and like.dim() > 2:
        return values.view(-1, *[1] * (like.dim() - 2))
    return values


def integrate_and_fire(
    current: Tensor, potential: Tensor, v_th: Tensor, steps: int, *, static: bool = False
) -> tuple[Tensor, Tensor]:
    """Simulate integrate-and-fire neurons with soft reset (PC eq. 2-4).

    `v += current; s = v_th * (v >= v_th); v -= s`

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        potential: membrane potential before the first step, `[N, C, ...]`; not changed.
        v_th: threshold, broadcastable against `potential`, activation units.
        steps: number of time steps T.
        static: the same current comes at every step.

    Returns:
        Spikes `[T, N, C, ...]` with values {0, v_th}, and the potential after the last step.
    """
    # In the current's memory order, which broadcasting the initial potential would lose.
    v = torch.empty_like(current if static else current[0]).copy_(potential)
    spikes = (
        torch.empty((steps, *v.shape), dtype=v.dtype, device=v.device)
        if static
        else torch.empty_like(current)
    )
    for t in range(steps):
        v.add_(current if static else current[t])
        # Comparing straight into floats is three times as fast as going through booleans.
        torch.ge(v, v_th, out=spikes[t]).mul_(v_th)
        v.sub_(spikes[t])
    return spikes, v


def signed_integrate_and_fire(
    current: Tensor, potential: Tensor, fired: Tensor, v_th: Tensor, steps: int, *, static: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Simulate neurons that take spikes back, with soft reset.

    `v += current; n = (v >= v_th) - (v < 0 and fired > 0); v -= n * v_th; fired += n`: a neuron remembers how
    often it has fired more than taken back, and that number never falls below 0.

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        potential: membrane potential before the first step, broadcastable to `[N, C, ...]`; not changed.
        fired: net number of spikes before the first step, broadcastable to `[N, C, ...]`; not changed.
        v_th: threshold, broadcastable against `potential`, activation units.
        steps: number of time steps T.
        static: the same current comes at every step.

    Returns:
        Spikes -1, 0 or 1 of each step, `[T, N, C, ...]` in the dtype of the currents, and potential and net
        number of spikes after the last step.
    """
    v = torch.empty_like(current if static else current[0]).copy_(potential)
    net = torch.empty_like(v).copy_(fired)
    counts = _empty(v, steps) if static else torch.empty_like(current)
    for t in range(steps):
        v.add_(current if static else current[t])
        torch.ge(v, v_th, out=counts[t]).sub_(((v < 0) & (net > 0)).to(v.dtype))
        v.sub_(counts[t] * v_th)
        net.add_(counts[t])
    return counts, v, net


def _empty(like: Tensor, steps: int) -> Tensor:
    """Return memory `[T, *shape]` whose steps lie as the dense `like` does."""
    strides = (like.numel(), *like.stride())
    return torch.empty_strided((steps, *like.shape), strides, dtype=like.dtype, device=like.device)


def burst_integrate_and_fire(
    current: Tensor, potential: Tensor, v_th: Tensor, most: int, steps: int, *, static: bool = False
) -> tuple[Tensor, Tensor]:
    """Simulate neurons that fire up to `most` spikes in one time step, with soft reset.

    `v += current; n = clip(floor(v / v_th), 0, most); v -= n * v_th`

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        potential: membrane potential before the first step, broadcastable to `[N, C, ...]`; not changed.
        v_th: threshold, broadcastable against `potential`, activation units.
        most: spikes a time step.
        steps: number of time steps T.
        static: the same current comes at every step.

    Returns:
        Number of spikes in each step, `[T, N, C, ...]` in the dtype of the currents, and the potential after
        the last step.
    """
    v = torch.empty_like(current if static else current[0]).copy_(potential)
    counts = _empty(v, steps) if static else torch.empty_like(current)
    for t in range(steps):
        v.add_(current if static else current[t])
        torch.div(v, v_th, out=counts[t]).floor_().clamp_(0, most)
        v.sub_(counts[t] * v_th)
    return counts, v


def switch_integrate_and_fire(
    current: Tensor, potential: Tensor, v_th: Tensor, steps: int, *, static: bool = False
) -> tuple[Tensor, Tensor]:
    """Simulate neurons that integrate for T time steps and then switch on for as long as it lasts.

    `v += current(1) + ... + current(T); n = clip(floor(v / v_th), 0, T); on(t) = (t <= n); v -= n * v_th`

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        potential: membrane potential before the first step, broadcastable to `[N, C, ...]`; not changed.
        v_th: threshold, broadcastable against `potential`, activation units.
        steps: number of time steps T.
        static: the same current comes at every step.

    Returns:
        1 where the neuron is on and else 0, `[T, N, C, ...]` in the dtype of the currents, t = 1...T being
        the time steps after those of the currents; and the potential after them.
    """
    v = potential + (current * steps if static else current.sum(0))
    length = torch.div(v, v_th).floor_().clamp_(0, steps)
    times = torch.arange(1, steps + 1, device=v.device).view(-1, *[1] * v.dim())
    return (times <= length).to(v.dtype), v - length * v_th


class _ClippedFloor(torch.autograd.Function):
    """`clip(floor(x), 0, most)` whose floor has gradient 1 (PC eq. 24).

    The clip passes gradients at its bounds too: else a neuron that rounds to no spike, or to most, could
    never be moved (`Tensor.clamp` does not, since torch 2.15).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, most: int) -> Tensor:
        spikes = x.floor()
        ctx.save_for_backward((spikes >= 0) & (spikes <= most))
        return spikes.clamp_(0, most)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


def expected_rate(
    current: Tensor, timesteps: int, v_th: Tensor, v_init: Tensor | float = 0.0, most: int = 1
) -> Tensor:
    """Return the rate of a neuron whose mean current is `current`.

    `v_th / T * clip(floor((T * current + v_init) / v_th), 0, most * T)`: with at most one spike a step
    ClipFloor (PC eq. 10) for v_init = 0, ClipRound (PC eq. 17) for v_init = v_th / 2, PC eq. 21 for any
    other. The floor passes gradients straight through (PC eq. 24).

    Args:
        current: mean current `[N, C, ...]`, activation units.
        timesteps: T.
        v_th: threshold, broadcastable against `current`.
        v_init: initial potential, broadcastable against `current`.
        most: spikes a time step.

    Returns:
        Rates `[N, C, ...]` in activation units.
    """
    spikes = _ClippedFloor.apply((timesteps * current + v_init) / v_th, most * timesteps)
    return spikes * (v_th / timesteps)


def clip_floor(x: Tensor, timesteps: int, v_th: Tensor) -> Tensor:
    """ClipFloor (PC eq. 10): `v_th / T * clip(floor(T x / v_th), 0, T)`."""
    return expected_rate(x, timesteps, v_th)


def clip_round(x: Tensor, timesteps: int, v_th: Tensor) -> Tensor:
    """ClipRound (PC eq. 17): `v_th / T * clip(floor(T x / v_th + 1/2), 0, T)`."""
    return expected_rate(x, timesteps, v_th, v_th / 2)
