"""A simulation that passes gradients: the spikes are exact, their derivative is a surrogate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn_lightning.graph.network import tree_map
from snn_lightning.spiking.functional import per_channel
from snn_lightning.spiking.model import SpikingModel, run_stage_in_time, run_static
from snn_lightning.spiking.neuron import GatedMaxPool, IFNeuron, Unit

DAMPING = 0.3
"""Height of the surrogate derivative at the threshold (Bellec et al. 2018, arXiv:1803.09574)."""


class _Spike(torch.autograd.Function):
    """`v_th * (v >= v_th)`, whose derivative by v is taken to be `DAMPING * max(0, 1 - |v / v_th - 1|)`."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, v_th: Tensor) -> Tensor:
        ctx.save_for_backward(v, v_th)
        return (v >= v_th).to(v.dtype) * v_th

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        v, v_th = ctx.saved_tensors
        return gradient * DAMPING * (1 - (v / v_th - 1).abs()).clamp(min=0), None


def spike_train(neuron: IFNeuron, current: Tensor, steps: int, static: bool = False) -> Tensor:
    """Return the spikes `[T, N, C, ...]` of a neuron, with gradients by the current; see `IFNeuron.forward`.

    Args:
        neuron: its threshold, initial potential and bias are constants here.
        current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`; activation units a time step.
        steps: T.
        static: the same current comes at every step.
    """
    like = current if static else current[0]
    v_th, bias, v = (per_channel(p, like).to(like.dtype) for p in (neuron.v_th, neuron.bias, neuron.v_init))
    spikes = []
    for t in range(steps):
        v = v + ((current if static else current[t]) + bias)
        spikes.append(_Spike.apply(v, v_th))
        v = v - spikes[-1]
    return torch.stack(spikes)


def differentiable_forward(model: SpikingModel, x: Tensor) -> Any:
    """Return the mean readout with gradients by the parameters that require them, over all T time steps.

    The output is that of `model(x)`; memory grows with T, as every time step is kept for the backward pass.

    Args:
        model: a spiking network; `model.requires_grad_()` makes its weights and biases trainable.
        x: inputs `[N, ...]`.

    Returns:
        The ANN's output structure; tensors `[N, ...]`.
    """
    steps, values = model.timesteps, run_static(model.network, x)
    means: dict[str, Tensor] = {}
    for stage in model.network.stages:
        results, static = run_stage_in_time(model.network, stage, values, steps)
        unit = model.units[stage.name]
        assert isinstance(unit, Unit)
        current = results[stage.current]
        if isinstance(unit, IFNeuron):
            output = spike_train(unit, current, steps, static)
        elif isinstance(unit, GatedMaxPool):
            output = _gate(unit, current)
        else:
            output, _ = unit(current, None, steps, static)
        values = {**values, **{key: results[key] for key in stage.exports}, stage.name: output}
        means[stage.name] = output.mean(0)
    return tree_map(lambda leaf: means[model.unit_name(leaf)], model.network.output)


def _gate(gate: GatedMaxPool, current: Tensor) -> Tensor:
    """Return the growth of each window's largest sum, as the gate does, out of place."""
    sums = current.cumsum(0)
    largest = gate.function(sums.flatten(0, 1), **gate.settings).unflatten(0, sums.shape[:2])
    return torch.cat([largest[:1], largest.diff(dim=0)])
