"""Muon: orthogonal steps, in single precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from snn_lightning.calibration.steps.muon import Muon, orthogonal


def stepped(weight: torch.Tensor, gradients: list[torch.Tensor], lr: float = 0.1) -> torch.Tensor:
    muon = Muon([{"params": [weight], "lr": lr}])
    for gradient in gradients:
        weight.grad = gradient
        muon.step()
    return weight


@pytest.mark.parametrize("size", [1e-6, 3.0])
def test_a_step_by_hand(size):
    expected = -0.1 * math.sqrt(2) * torch.eye(2)
    torch.testing.assert_close(stepped(torch.zeros(2, 2), [size * torch.eye(2)]), expected)


def test_the_momentum_of_two_steps_by_hand():
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    # m = 0.09, 0.1; with one more look ahead 0.081, 0.19.
    direction = torch.tensor([[0.081, 0.19]])
    second = 0.1 * direction / direction.square().mean().sqrt()
    expected = -0.1 * math.sqrt(2) * one - second
    torch.testing.assert_close(stepped(torch.zeros(1, 2), [one, other]), expected)


def test_a_convolution_is_a_matrix_of_its_outputs():
    gradient = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    flat = stepped(torch.zeros(4, 12), [gradient.flatten(1)])
    assert torch.equal(stepped(torch.zeros(4, 3, 2, 2), [gradient]).flatten(1), flat)


def test_no_gradient_is_no_step():
    assert torch.equal(stepped(torch.ones(3, 2), [torch.zeros(3, 2)]), torch.ones(3, 2))


def test_a_schedule_reaches_the_steps():
    weight = nn.Parameter(torch.zeros(2, 2))
    muon = Muon([{"params": [weight], "lr": 1.0}])
    torch.optim.lr_scheduler.ConstantLR(muon, factor=0.5, total_iters=9)
    weight.grad = torch.eye(2)
    muon.step()
    torch.testing.assert_close(weight.detach(), -0.5 * math.sqrt(2) * torch.eye(2))


@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-8, 1e8), st.integers(0, 99))
@settings(max_examples=60)
def test_singular_values_come_close_to_one(rows, columns, size, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    before, after = torch.linalg.svdvals(matrix), torch.linalg.svdvals(orthogonal(size * matrix))
    large = before > before.norm() / 300
    assert ((after > 0.4) & (after < 1.6))[large].all()


def test_rounding_grows_by_less_than_a_thousand():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(64, 8, generator=generator) @ torch.randn(8, 90, generator=generator)
    other = matrix * (1 + 1e-6 * torch.randn(64, 90, generator=generator))
    first, second = orthogonal(matrix), orthogonal(other)
    assert (first - second).norm() < 1e-3 * first.norm()
