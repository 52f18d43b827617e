"""Gradients through spikes."""

import pytest
import torch
from torch import nn

from snn_lightning import convert
from snn_lightning.spiking import surrogate
from snn_lightning.spiking.functional import integrate_and_fire


class _Spike(torch.autograd.Function):
    """The same surrogate for a single step, the rest left to autograd."""

    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        return gradient * (1 - distance.abs()).clamp(min=0)


def _unrolled(current, start, v_th, bias, steps, static):
    v, spikes = start + torch.zeros_like(current if static else current[0]), []
    for t in range(steps):
        v = v + (current if static else current[t]) + bias
        spikes.append(_Spike.apply(v / v_th - 1) * v_th)
        v = v - spikes[-1]
    return torch.stack(spikes), v


@pytest.mark.parametrize("static", [False, True])
def test_gradients_are_those_of_the_unrolled_neuron(static):
    torch.manual_seed(0)
    steps, shape = 5, (3, 4, 2, 2)
    current = torch.randn(shape if static else (steps, *shape), dtype=torch.float64)
    start, v_th, bias = (torch.rand(4, 1, 1, dtype=torch.float64) + offset for offset in (0.0, 0.5, -0.5))
    arguments = [x.requires_grad_() for x in (current, start, v_th, bias)]
    weights = torch.randn(steps + 1, *shape, dtype=torch.float64)
    results = []
    for spikes, end in (
        surrogate.simulate(*arguments, steps, static=static),
        _unrolled(*arguments, steps, static),
    ):
        loss = (weights[:-1] * spikes).sum() + (weights[-1] * end).sum()
        results.append([spikes.detach(), *torch.autograd.grad(loss, arguments)])
    for ours, theirs in zip(*results, strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_slope_is_a_triangle_around_the_threshold():
    """One step, v_th = 2, potentials 0, 1, 2, 3, 4: distances -1, -1/2, 0, 1/2, 1 thresholds."""
    current = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    zero, v_th = torch.zeros(()), torch.tensor(2.0)
    spikes, _ = surrogate.simulate(current, zero, v_th, zero, 1, static=True)
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert spikes.tolist() == [[[0, 0, 2, 2, 2]]]
    assert gradient.tolist() == [[0, 0.5, 1, 0.5, 0]]


@pytest.mark.parametrize("static", [False, True])
def test_forward_is_the_plain_simulation(static):
    current = torch.randn((3, 4) if static else (6, 3, 4), generator=torch.Generator().manual_seed(1))
    v_th, start, bias = torch.full((4,), 0.7), torch.full((4,), 0.35), torch.full((4,), 0.01)
    expected = integrate_and_fire(current + bias, start, v_th, 6, static=static)
    result = surrogate.simulate(current, start, v_th, bias, 6, static=static)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_a_spiking_network_can_be_trained():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x, y = torch.randn(64, 6), torch.randint(3, (64,))
    snn = convert(ann, x, timesteps=4)
    before = snn(x)
    assert not before.requires_grad
    snn.requires_grad_(True)
    optimizer = torch.optim.Adam(snn.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(snn(x), y).backward()
        assert all(p.grad is not None for p in snn.parameters())
        optimizer.step()
    with torch.no_grad():
        after = snn(x)
    losses = [nn.functional.cross_entropy(logits, y).item() for logits in (before, after)]
    assert losses[1] < 0.6 * losses[0]
