"""Each formula of integrate-and-fire neurons against numbers worked out by hand."""

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snn_lightning.spiking.neurons.dynamics import (
    clip_floor,
    clip_round,
    expected_rate,
    per_channel,
)
from snn_lightning.spiking.neurons.dynamics import integrate_and_fire as listed


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def integrate_and_fire(
    current: Tensor, v: Tensor, v_th: Tensor, steps: int, static: bool = False
) -> tuple[Tensor, Tensor]:
    """Return spikes `[T, N, C, ...]` and the potential after the last step."""
    spikes, end = listed(current, v, v_th, tensor(0.0), steps, static)
    return torch.stack(spikes), end


def test_the_potential_integrates_fires_and_is_reset_by_the_threshold() -> None:
    # Threshold 2, from 0: 1.5 | 3.0 -> spike, 1.0 | 1.5 | 2.0 -> spike, 0 | -1 | 4.0 -> spike, 2.0
    current = tensor(1.5, 1.5, 0.5, 0.5, -1.0, 5.0).view(6, 1, 1)
    spikes, v = integrate_and_fire(current, torch.zeros(1, 1, dtype=torch.float64), tensor(2.0), 6)
    assert spikes.flatten().tolist() == [0, 2, 0, 2, 0, 2]
    assert v.item() == 2.0


def test_the_potential_at_each_step_is_as_worked_out() -> None:
    current, v = tensor(1.5, 1.5, 0.5, 0.5, -1.0, 5.0), torch.zeros(1, 1, dtype=torch.float64)
    seen = []
    for value in current:
        _, v = integrate_and_fire(value.view(1, 1, 1), v, tensor(2.0), 1)
        seen.append(v.item())
    assert seen == [1.5, 1.0, 1.5, 0.0, -1.0, 2.0]


def test_a_neuron_fires_once_a_step_and_keeps_the_rest() -> None:
    spikes, v = integrate_and_fire(
        tensor(7.0).view(1, 1), tensor(0.0).view(1, 1), tensor(2.0), 5, static=True
    )
    assert spikes.flatten().tolist() == [2, 2, 2, 2, 2]
    assert v.item() == 5 * 7 - 5 * 2


def test_the_threshold_itself_fires() -> None:
    spikes, v = integrate_and_fire(tensor(2.0).view(1, 1, 1), tensor(0.0).view(1, 1), tensor(2.0), 1)
    assert spikes.item() == 2.0
    assert v.item() == 0.0


def test_the_given_potential_is_not_changed() -> None:
    before = tensor(1.0).view(1, 1)
    integrate_and_fire(tensor(3.0).view(1, 1, 1), before, tensor(2.0), 1)
    assert before.item() == 1.0


def test_a_static_current_is_the_same_current_at_every_step() -> None:
    current = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v = torch.full_like(current, 0.25)
    v_th = tensor(0.5, 1.0, 1.5, 2.0)[:, None]
    static = integrate_and_fire(current, v, v_th, 7, static=True)
    repeated = integrate_and_fire(current.expand(7, -1, -1, -1), v, v_th, 7)
    assert torch.equal(static[0], repeated[0])
    assert torch.equal(static[1], repeated[1])


@pytest.mark.parametrize(
    ("x", "expected"),
    # T = 4, threshold 2: a step of 0.5.
    [
        (-1.0, 0.0),
        (0.0, 0.0),
        (0.49, 0.0),
        (0.5, 0.5),
        (0.74, 0.5),
        (1.3, 1.0),
        (1.99, 1.5),
        (2.0, 2.0),
        (9, 2.0),
    ],
)
def test_clip_floor_by_hand(x: float, expected: float) -> None:
    assert clip_floor(tensor(x), 4, tensor(2.0)).item() == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [(-1.0, 0.0), (0.24, 0.0), (0.25, 0.5), (0.74, 0.5), (0.76, 1.0), (1.74, 1.5), (1.75, 2.0), (9.0, 2.0)],
)
def test_clip_round_by_hand(x: float, expected: float) -> None:
    assert clip_round(tensor(x), 4, tensor(2.0)).item() == expected


@pytest.mark.parametrize(
    ("v_init", "expected"),
    # x = 0.7: floor((4 * 0.7 + v) / 2) * 2 / 4
    [(0.0, 0.5), (1.0, 0.5), (1.3, 1.0), (-1.0, 0.0), (5.5, 2.0), (-9.0, 0.0), (3.3, 1.5)],
)
def test_expected_rate_with_an_initial_potential_by_hand(v_init: float, expected: float) -> None:
    assert expected_rate(tensor(0.7), 4, tensor(2.0), tensor(v_init)).item() == expected


def test_the_floor_passes_gradients_and_the_clip_stops_them() -> None:
    # T = 4, threshold 2; floor(2x + 1/2) is below 0, 0, 1, 2, 4, above 4.
    x = tensor(-1.0, 0.1, 0.6, 1.1, 1.9, 2.6).requires_grad_()
    clip_round(x, 4, tensor(2.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_the_gradient_of_the_rate_to_the_initial_potential_is_one_over_t() -> None:
    v_init = tensor(0.5, 0.5).requires_grad_()
    expected_rate(tensor(0.9, 9.0), 5, tensor(2.0), v_init).sum().backward()
    assert v_init.grad is not None
    assert v_init.grad.tolist() == pytest.approx([1 / 5, 0.0])


def test_parameters_take_the_shape_of_activations() -> None:
    like = torch.zeros(2, 3, 4, 5)
    assert per_channel(torch.zeros(3), like).shape == (3, 1, 1)
    assert per_channel(torch.zeros(()), like).shape == ()
    assert per_channel(torch.zeros(3, 4, 5), like).shape == (3, 4, 5)
    assert per_channel(torch.zeros(3), like[:, :, 0, 0]).shape == (3,)


# Dyadic numbers: sums and differences of them are exact in float64.
dyadic = st.integers(-64, 192).map(lambda n: n / 64)
thresholds = st.integers(1, 160).map(lambda n: n / 64)
timesteps = st.integers(1, 40)


@given(dyadic, thresholds, timesteps, st.integers(0, 7).map(lambda n: n / 8))
def test_a_constant_current_gives_the_expected_rate(x: float, v_th: float, steps: int, part: float) -> None:
    # With a potential in [0, v_th) at first, theory is exact: m spikes, at most one a step.
    v_init = part * v_th
    spikes_wanted = min(max(floor((steps * Fraction(x) + Fraction(v_init)) / Fraction(v_th)), 0), steps)
    train, _ = integrate_and_fire(
        tensor(x).view(1, 1), tensor(v_init).view(1, 1), tensor(v_th), steps, static=True
    )
    assert train.count_nonzero().item() == spikes_wanted
    assert set(train.flatten().tolist()) <= {0.0, v_th}
    rate = expected_rate(tensor(x), steps, tensor(v_th), tensor(v_init)).item()
    assert rate == pytest.approx(spikes_wanted * v_th / steps, abs=1e-15)
