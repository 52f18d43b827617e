"""Kernels as operators of PyTorch, so that networks can be traced, exported, transformed and differentiated.

In a graph each is one node, which runs the fastest kernel there is; for exporters to other formats `unrolled`
takes it apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import register_decomposition

from snn_lightning.spiking.kernels import cpu, reference
from snn_lightning.spiking.kernels.choice import fastest
from snn_lightning.spiking.kernels.layout import Layout
from snn_lightning.spiking.neurons.dynamics import integrate_and_fire


def run(
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool,
    lowest: int,
    highest: int,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor]:
    """Simulate in this device's memory; see `kernels.simulate`."""
    if (lowest, highest) == (0, 1):
        return fastest(current).simulate(current, state, v_th, bias, steps, static, overwrite)
    return reference.simulate(current, state, v_th, bias, steps, static, False, lowest, highest)


@torch.library.custom_op("snn_lightning::simulate", mutates_args=())
def simulate(
    current: Tensor,
    state: Tensor,
    v_th: Tensor,
    bias: Tensor,
    steps: int,
    static: bool,
    lowest: int,
    highest: int,
) -> tuple[Tensor, Tensor]:
    """Simulate; see `kernels.simulate`."""
    return run(current.detach(), state, v_th, bias, steps, static, lowest, highest)


@simulate.register_fake
def _(
    current: Tensor, state: Tensor, v_th: Tensor, bias: Tensor, steps: int, static: bool, *bounds: int
) -> tuple[Tensor, Tensor]:
    layout = Layout.of(current if static else current[0])
    (_, spikes), (_, end) = layout.empty(current, steps), layout.empty(current)
    return spikes, torch.stack([end, end]) if bounds[0] < 0 else end


@register_decomposition(torch.ops.snn_lightning.simulate.default)
def unrolled(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Simulate by plain operators that change nothing in place; see `kernels.simulate`."""
    spikes, end = integrate_and_fire(*arguments)
    return torch.stack(spikes), end


@torch.library.custom_op("snn_lightning::gradients", mutates_args=())
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a simulation; see `surrogate.gradients`."""
    current = current.detach()
    if (lowest, highest) == (0, 1) and fastest(current) is cpu:
        return cpu.gradients(current, state, v_th, bias, static, to_spikes, to_end)
    return reference.gradients(current, state, v_th, bias, spikes, to_spikes, to_end, static, lowest, highest)


@gradients.register_fake
def _(
    current: Tensor, state: Tensor, v_th: Tensor, bias: Tensor, spikes: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    layout = Layout.of(spikes[0])
    return layout.empty(spikes, spikes.shape[0])[1], layout.empty(spikes)[1], layout.empty(spikes)[1]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, _, ctx.static, ctx.lowest, ctx.highest = inputs
    ctx.save_for_backward(*tensors, output[0])


def _backward(ctx: Any, to_spikes: Tensor, to_end: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of current, state, v_th and bias in their shapes, from those of each neuron."""
    current, state, v_th, bias, spikes = ctx.saved_tensors
    signed = ctx.lowest < 0
    operator = Gradients.apply if torch._C._are_functorch_transforms_active() else gradients
    to_current, to_start, to_v_th = operator(
        *(current, state, v_th, bias, spikes, to_spikes, to_end[0] if signed else to_end),
        *(ctx.static, ctx.lowest, ctx.highest),
    )
    over_time = to_current.sum(0)
    to_start = to_start.sum_to_size(state.shape[1:] if signed else state.shape)
    return (
        over_time if ctx.static else to_current,
        # How much there is to take back passes no gradient.
        torch.stack([to_start, torch.zeros_like(to_start)]) if signed else to_start,
        to_v_th.sum_to_size(v_th.shape),
        over_time.sum_to_size(bias.shape),
        *[None] * 4,
    )


simulate.register_autograd(_backward, setup_context=_keep)


class Simulation(torch.autograd.Function):
    """`simulate` for `torch.func`, which a formula that is registered for an operator doesn't reach."""

    generate_vmap_rule = True
    forward = staticmethod(simulate)
    setup_context = staticmethod(_keep)
    backward = staticmethod(_backward)


class Gradients(torch.autograd.Function):
    """`gradients` for `torch.func`; they have none themselves."""

    generate_vmap_rule = True
    forward = staticmethod(gradients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep nothing."""


def _one_by_one(operator: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Any]:
    """Return the rule for `torch.vmap` that runs an operator for each element of a batch."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, tuple[int, ...]]:
        pairs = list(zip(arguments, in_dims, strict=True))
        results = [
            operator(*(x if dim is None else x.select(dim, i) for x, dim in pairs))
            for i in range(info.batch_size)
        ]
        outputs = tuple(map(torch.stack, zip(*results, strict=True)))
        return outputs, (0,) * len(outputs)

    return rule


simulate.register_vmap(_one_by_one(simulate))
gradients.register_vmap(_one_by_one(gradients))
