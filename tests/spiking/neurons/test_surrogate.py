"""Gradients through spikes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snn_lightning import IF, Burst, Signed, convert
from snn_lightning.spiking import kernels
from snn_lightning.spiking.neurons import surrogate


class _Spike(torch.autograd.Function):
    """The same surrogate for a single step of a staircase, the rest left to autograd."""

    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        return gradient * (1 - distance.abs()).clamp(min=0)


def _unrolled(neuron, current, start, v_th, bias, steps, static):
    """The literal loop: a spike for each level that is reached, one back below each that is not."""
    v, spikes = start + torch.zeros_like(current if static else current[0]), []
    fired = torch.zeros_like(v)
    for t in range(steps):
        v = v + (current if static else current[t]) + bias
        counts = sum(_Spike.apply(v / v_th - level) for level in range(1, neuron.highest + 1))
        if neuron.lowest < 0:
            counts = counts - (1 - _Spike.apply(v / v_th)) * (fired > 0)
        fired = fired + counts.detach()
        spikes.append(counts * v_th)
        v = v - spikes[-1]
    return torch.stack(spikes), torch.stack([v, fired]) if neuron.lowest < 0 else v


KINDS = [IF(), Signed(), Burst(1), Burst(3)]


def _numbers(*shape, scale=1.0, offset=0.0):
    return (scale * torch.randn(shape, dtype=torch.float64) + offset).requires_grad_()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("static", [False, True])
def test_gradients_are_those_of_the_unrolled_neuron(kind, static):
    torch.manual_seed(0)
    steps, shape, neuron = 6, (3, 4, 2, 2), kind.build()
    current = _numbers(*(shape if static else (steps, *shape)), scale=1.5)
    neuron.v_init, neuron.bias = _numbers(4), _numbers(4, scale=0.1)
    neuron.v_th = (torch.rand(4, dtype=torch.float64) + 0.5).requires_grad_()
    arguments = [current, neuron.v_init, neuron.v_th, neuron.bias]
    shaped = [current, *(x.view(4, 1, 1) for x in arguments[1:])]
    expected = _unrolled(neuron, *shaped, steps, static)
    result = neuron(current, None, steps, static)
    # To the potential at the end there is a gradient, to the number of spikes fired there is none.
    weights = [torch.randn_like(x) for x in expected]
    gradients = [
        torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, pair, strict=True)), arguments)
        for pair in (result, expected)
    ]
    counts = (expected[0] / neuron.v_th.view(4, 1, 1)).round()
    assert (counts.min().item(), counts.max().item()) == (neuron.lowest, neuron.highest)
    for ours, theirs in [*zip(result, expected, strict=True), *zip(*gradients, strict=True)]:
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_pass_from_one_part_of_time_to_the_next(kind):
    torch.manual_seed(1)
    neuron, current = kind.build().double(), _numbers(7, 3, 4, scale=1.5)
    weights = torch.randn(7, 3, 4, dtype=torch.float64)
    spikes, _ = neuron(current, None, 7)
    first, state = neuron(current[:3], None, 3)
    second, _ = neuron(current[3:], state, 4)
    (whole,) = torch.autograd.grad((weights * spikes).sum(), current)
    (parts,) = torch.autograd.grad((weights * torch.cat([first, second])).sum(), current)
    assert whole[:3].abs().sum() > 0
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (0, 1, [0, 0, 0, 0.5, 1, 0.5, 0, 0, 0]),
        (0, 2, [0, 0, 0, 0.5, 1, 1, 1, 0.5, 0]),
        (-1, 1, [0, 0.5, 1, 1, 1, 0.5, 0, 0, 0]),
    ],
)
def test_the_slope_is_a_sum_of_triangles_around_the_steps(lowest, highest, expected):
    """Levels -1, -1/2, ..., 3 thresholds; the neurons of the last row have a spike to take back."""
    level = torch.linspace(-1, 3, 9)
    assert surrogate.slope(level, lowest, highest).tolist() == expected
    assert surrogate.slope(level, torch.full((9,), lowest), highest).tolist() == expected


def test_by_hand():
    """One step, v_th = 2, potentials 0, 1, 2, 3, 4: half, all and half of the gradient around 2."""
    current = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    zero, v_th = torch.zeros(()), torch.tensor(2.0)
    spikes, _ = kernels.simulate(current, zero, v_th, zero, 1, static=True)
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert spikes.tolist() == [[[0, 0, 2, 2, 2]]]
    assert gradient.tolist() == [[0, 0.5, 1, 0.5, 0]]


def test_taking_back_has_a_gradient_only_where_something_was_fired():
    """v_th = 2: the potential falls to -1, which is half a threshold below the step at 0."""
    current = torch.tensor([[-1.0, -1.0]], requires_grad=True)
    state = torch.tensor([[[0.0, 0.0]], [[0.0, 3.0]]])
    v_th, zero = torch.tensor(2.0), torch.zeros(())
    spikes, end = kernels.simulate(current, state, v_th, zero, 1, static=True, lowest=-1)
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert spikes.tolist() == [[[0, -2]]]
    assert end.tolist() == [[[-1, 1]], [[0, 2]]]
    assert gradient.tolist() == [[0, 0.5]]


@given(
    st.sampled_from(KINDS),
    st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12),
    st.floats(0.03125, 4, width=32),
    st.booleans(),
)
def test_forward_is_the_plain_simulation(kind, values, v_th, static):
    neuron = kind.build()
    neuron.set_threshold(torch.tensor([v_th]), "potential", 1)
    current = torch.tensor(values).view(-1, 1, 1)
    current, steps = (current[0], 7) if static else (current, len(values))
    expected = neuron(current, None, steps, static)
    result = neuron(current.clone().requires_grad_(), None, steps, static)
    assert all(x.requires_grad for x in result)
    for a, b in zip(result, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_spiking_network_can_be_trained(kind):
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x, y = torch.randn(64, 6), torch.randint(3, (64,))
    snn = convert(ann, x, timesteps=4, neuron=kind)
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
