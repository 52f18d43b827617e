"""Pure tensor maths of integrate-and-fire neurons, simulated and on average."""

from __future__ import annotations

from collections.abc import Callable
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
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool = False,
    lowest: int = 0,
    highest: int = 1,
) -> tuple[list[Tensor], Tensor]:
    """Simulate neurons with soft reset, as `kernels.simulate` says, by operators that any graph can hold.

    Returns:
        The spikes of each step, `[N, C, ...]` with values `n * v_th`, and the state after the last step.
    """
    v, fired = state.unbind(0) if lowest < 0 else (state, None)
    spikes = []
    for t in range(steps):
        v = v + ((current if static else current[t]) + bias)
        if (lowest, highest) == (0, 1):
            spikes.append(torch.where(v >= v_th, v_th, 0.0))
        else:
            counts = (v / v_th).floor().clamp(lowest, highest)
            if fired is not None:
                counts = torch.maximum(counts, fewest(fired, lowest))
                fired = fired + counts
            spikes.append(counts * v_th)
        v = v - spikes[-1]
    return spikes, v if fired is None else torch.stack([v, fired])


def fewest(fired: Tensor, lowest: int) -> Tensor:
    """Return the fewest spikes that neurons which have fired `fired` more than taken back can fire now."""
    # Not by a sign, which zeros would keep.
    return 0 - fired.clamp(max=-lowest)


def first_steps(counts: Tensor, steps: int) -> Tensor:
    """Return 1 in the first `counts` of so many time steps and else 0, `[T, N, C, ...]`.

    Args:
        counts: whole numbers `[N, C, ...]` from 0 to T.
        steps: T.

    Example:
        >>> first_steps(torch.tensor([0.0, 2.0, 3.0]), steps=3).T
        tensor([[0., 0., 0.],
                [1., 1., 0.],
                [1., 1., 1.]])
    """
    times = torch.arange(1, steps + 1, device=counts.device).view(-1, *[1] * counts.dim())
    return (times <= counts).to(counts.dtype)


Derivative = Callable[[Tensor, int, int], Tensor]
"""From a level, in thresholds, and the fewest and the most spikes to what stands for the derivative of their
number."""


def straight_through(level: Tensor, lowest: int, highest: int) -> Tensor:
    """Return the derivative of a floor taken for the identity (PC eq. 24): 1 where nothing is clipped.

    The bounds are not clipped: else a neuron that rounds to no spike, or to most, could never be moved
    (`Tensor.clamp` passes nothing there, since torch 2.15).
    """
    return (level >= lowest) & (level < highest + 1)


class _ClippedFloor(torch.autograd.Function):
    """`clip(floor(level), 0, most)` with a derivative of one's own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(level: Tensor, most: int, derivative: Derivative) -> Tensor:
        return level.floor().clamp(0, most)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, Derivative], output: Tensor) -> None:
        level, most, derivative = inputs
        ctx.save_for_backward(derivative(level, 0, most))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None


def expected_count(
    current: Tensor,
    timesteps: int,
    v_th: Tensor,
    v_init: Tensor | float = 0.0,
    most: int = 1,
    derivative: Derivative = straight_through,
) -> Tensor:
    """Return the number of spikes in T steps, `[N, C, ...]`, of a neuron whose mean current is `current`.

    `clip(floor((T * current + v_init) / v_th), 0, most * T)`; see `expected_rate`. `derivative` is that of
    the clipped floor.
    """
    level, parameters = timesteps * current, [x for x in (v_th, v_init) if isinstance(x, Tensor)]
    whole = torch.broadcast_shapes(level.shape, *(x.shape for x in parameters)) == level.shape
    if whole and untracked(level, *parameters):
        return level.add_(v_init).div_(v_th).floor_().clamp_(0, most * timesteps)
    counts: Tensor = _ClippedFloor.apply((level + v_init) / v_th, most * timesteps, derivative)
    return counts


def untracked(*inputs: Tensor) -> bool:
    """Whether nothing is traced, transformed or differentiated, so that results may be changed in place.

    Large blocks of fresh memory cost more than the arithmetic in them.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    tracked = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return not tracked and all(type(x) is Tensor for x in inputs)


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
    return expected_count(current, timesteps, v_th, v_init, most) * (v_th / timesteps)


def clip_floor(x: Tensor, timesteps: int, v_th: Tensor) -> Tensor:
    """ClipFloor (PC eq. 10): `v_th / T * clip(floor(T x / v_th), 0, T)`."""
    return expected_rate(x, timesteps, v_th)


def clip_round(x: Tensor, timesteps: int, v_th: Tensor) -> Tensor:
    """ClipRound (PC eq. 17): `v_th / T * clip(floor(T x / v_th + 1/2), 0, T)`."""
    return expected_rate(x, timesteps, v_th, v_th / 2)
