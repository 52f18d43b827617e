"""Integrate-and-fire neurons that gradients pass through, by a surrogate of the spike's derivative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def triangle(distance: Tensor) -> Tensor:
    """Return the derivative that stands for a spike's, `max(0, 1 - |distance|)` (Bellec et al. 2018).

    Args:
        distance: of the potential from the threshold, in thresholds: `v / v_th - 1`.
    """
    return distance.abs().neg_().add_(1).clamp_(min=0)


class _IntegrateAndFire(torch.autograd.Function):
    """`integrate_and_fire`, whose step from no spike to a spike has the slope `triangle`."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool
    ) -> tuple[Tensor, Tensor]:
        v = torch.empty_like(current if static else current[0]).copy_(start)
        spikes = torch.empty((steps, *v.shape), dtype=v.dtype, device=v.device)
        distances = torch.empty_like(spikes)
        for t in range(steps):
            v.add_((current if static else current[t]) + bias)
            torch.div(v, v_th, out=distances[t]).sub_(1)
            torch.ge(v, v_th, out=spikes[t]).mul_(v_th)
            v.sub_(spikes[t])
        ctx.save_for_backward(distances, spikes, start, v_th, bias)
        ctx.static = static
        return spikes, v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, at_end: Tensor) -> tuple[Tensor | None, ...]:
        distances, spikes, start, v_th, bias = ctx.saved_tensors
        # The gradient of the potential after the reset; in the loop, then, before the integration.
        after = at_end
        to_current = torch.empty_like(distances)
        to_threshold = torch.zeros_like(at_end)
        for t in reversed(range(len(distances))):
            slope = triangle(distances[t])
            to_spike = gradient[t] - after
            to_threshold += to_spike * ((spikes[t] != 0).to(slope) - slope * (distances[t] + 1))
            after = torch.addcmul(after, to_spike, slope)
            to_current[t] = after
        over_time = to_current.sum(0)
        return (
            over_time if ctx.static else to_current,
            after.sum_to_size(start.shape),
            to_threshold.sum_to_size(v_th.shape),
            over_time.sum_to_size(bias.shape),
            None,
            None,
        )


def simulate(
    current: Tensor, start: Tensor, v_th: Tensor, bias: Tensor, steps: int, *, static: bool = False
) -> tuple[Tensor, Tensor]:
    """Simulate integrate-and-fire neurons with soft reset (PC eq. 2-4) so that gradients pass.

    Forward it is `kernels.simulate`; backward, through all time steps and resets, the step from no spike to
    a spike has the slope `triangle`.

    Args:
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        start: potential before the first step, broadcastable against `[N, C, ...]`.
        v_th: threshold, broadcastable against `[N, C, ...]`, activation units.
        bias: added to the current at every step, broadcastable against `[N, C, ...]`.
        steps: T.
        static: the same current comes at every step.

    Returns:
        Spikes `[T, N, C, ...]` with values {0, v_th}, and the potential after the last step; gradients go
        from both to the first four arguments.
    """
    spikes, end = _IntegrateAndFire.apply(current, start, v_th, bias, steps, static)
    return spikes, end
