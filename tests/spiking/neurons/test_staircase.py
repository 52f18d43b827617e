"""Signed and burst neurons: by hand, against integer arithmetic, and in parts of time."""

from collections.abc import Callable
from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.spiking import BurstNeuron, IFNeuron, SignedNeuron
from snn_lightning.spiking.neurons.dynamics import expected_rate, integrate_and_fire

KINDS: dict[str, Callable[[Tensor], IFNeuron]] = {
    "signed": lambda v_th: SignedNeuron(v_th),
    "burst 2": lambda v_th: BurstNeuron(2, v_th),
    "burst 5": lambda v_th: BurstNeuron(5, v_th),
}

# Dyadic numbers: sums and differences of them are exact in float64.
currents = st.lists(st.integers(-192, 192).map(lambda n: n / 64), min_size=1, max_size=24)
thresholds = st.integers(1, 32).map(lambda n: n / 16)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def column(values: list[float]) -> Tensor:
    """Currents `[T, 1, 1]`."""
    return tensor(*values).view(-1, 1, 1)


def burst(current: Tensor, v: Tensor, v_th: Tensor, most: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return the number of spikes of each step, and the potential after the last one."""
    spikes, end = integrate_and_fire(current, v, v_th, tensor(0.0), steps, highest=most)
    return torch.stack(spikes) / v_th, end


def signed(
    current: Tensor, v: Tensor, fired: Tensor, v_th: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number of spikes of each step, and potential and net number of spikes after the last one."""
    state = torch.stack([v, fired])
    spikes, end = integrate_and_fire(current, state, v_th, tensor(0.0), steps, lowest=-1)
    return torch.stack(spikes) / v_th, *end


def test_signed_spikes_by_hand() -> None:
    # Threshold 2, from 0: 3 -> +1, 1 | -2 -> -1, 0 | -3, nothing left to take back | -1 | 2 -> +1, 0
    # | 3 -> +1, 1 | -0.5 -> -1, 1.5 | -4 -> -1, -2 | -2, nothing left
    given_ = [3.0, -3.0, -3.0, 2.0, 3.0, 3.0, -1.5, -5.5, 0.0]
    counts, v, fired = signed(column(given_), tensor(0.0), tensor(0.0), tensor(2.0), 9)
    assert counts.flatten().tolist() == [1, -1, 0, 0, 1, 1, -1, -1, 0]
    assert v.item() == -2.0
    assert fired.item() == 0.0


def test_a_spike_is_taken_back_below_zero_and_not_at_zero() -> None:
    counts, v, fired = signed(column([2.0, 0.0, -0.25]), tensor(0.0), tensor(0.0), tensor(2.0), 3)
    assert counts.flatten().tolist() == [1, 0, -1]
    assert (v.item(), fired.item()) == (1.75, 0.0)


def test_spikes_of_earlier_steps_can_be_taken_back() -> None:
    counts, _, fired = signed(column([-1.0]), tensor(0.5), tensor(3.0), tensor(2.0), 1)
    assert (counts.item(), fired.item()) == (-1.0, 2.0)


def test_burst_spikes_by_hand() -> None:
    # Threshold 2, up to 3, from 1: 2 -> 1, 0 | 5 -> 2, 1 | 9.5 -> 3, 3.5 | 3.5 -> 1, 1.5 | -2.5 | 4 -> 2, 0
    counts, v = burst(column([1.0, 5.0, 8.5, 0.0, -4.0, 6.5]), tensor(1.0), tensor(2.0), 3, 6)
    assert counts.flatten().tolist() == [1, 2, 3, 1, 0, 2]
    assert v.item() == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_given_potential_is_not_changed_and_static_currents_come_at_every_step(kind: str) -> None:
    current = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    neuron = KINDS[kind](tensor(0.5, 1.0, 1.5, 2.0))
    static, ended = neuron(current, None, 7, static=True)
    repeated, end = neuron(current.expand(7, -1, -1, -1), None, 7)
    assert torch.equal(static, repeated)
    assert torch.equal(ended, end)
    assert torch.equal(neuron.v_init, neuron.v_th / 2)


@given(currents, thresholds, st.integers(-4, 8).map(lambda n: n / 8), st.integers(1, 6))
def test_nothing_is_lost_and_counts_keep_their_bounds(
    given_: list[float], v_th: float, part: float, most: int
) -> None:
    v_init, steps = part * v_th, len(given_)
    whole = v_init + sum(given_)
    for counts, v in (
        burst(column(given_), tensor(v_init), tensor(v_th), most, steps),
        signed(column(given_), tensor(v_init), tensor(0.0), tensor(v_th), steps)[:2],
    ):
        assert v.item() == whole - v_th * counts.sum().item()
        assert torch.equal(counts, counts.round())
    counts, _ = burst(column(given_), tensor(v_init), tensor(v_th), most, steps)
    assert 0 <= counts.min() <= counts.max() <= most
    counts, _, fired = signed(column(given_), tensor(v_init), tensor(0.0), tensor(v_th), steps)
    assert set(counts.flatten().tolist()) <= {-1.0, 0.0, 1.0}
    # Never more taken back than fired, at any step.
    assert counts.cumsum(0).min() >= 0
    assert fired.item() == counts.sum().item()


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=24), st.floats(0.125, 2, width=32))
def test_a_burst_of_one_is_an_integrate_and_fire_neuron_bit_for_bit(given_: list[float], v_th: float) -> None:
    current = torch.tensor(given_, dtype=torch.float32).view(-1, 1, 1)
    binary, several = IFNeuron(torch.tensor([v_th])), BurstNeuron(1, torch.tensor([v_th]))
    for neuron in (binary, several):
        neuron.bias = torch.tensor([0.03])
    expected, v = binary(current.clone(), None, len(given_))
    spikes, end = several(current, None, len(given_))
    assert torch.equal(spikes, expected)
    assert torch.equal(end, v)


@given(st.integers(-64, 256), st.integers(1, 64), st.integers(1, 32), st.sampled_from(["potential", "floor"]))
def test_at_a_constant_current_a_signed_neuron_fires_as_a_binary_one(
    x: int, v_th: int, steps: int, rounding: str
) -> None:
    current, threshold = tensor(x / 64).view(1, 1), tensor(v_th / 32)
    binary, _ = IFNeuron(threshold, rounding, steps)(current, None, steps, static=True)
    signed, _ = SignedNeuron(threshold, rounding, steps)(current, None, steps, static=True)
    assert torch.equal(signed, binary)


@given(st.integers(-64, 512), st.integers(1, 64), st.integers(1, 16), st.integers(1, 5), st.integers(0, 7))
def test_at_a_constant_current_a_burst_has_the_expected_rate(
    x: int, v_th: int, steps: int, most: int, part: int
) -> None:
    current, threshold = Fraction(x, 64), Fraction(v_th, 32)
    v_init = threshold * part / 8
    wanted = min(max(floor((steps * current + v_init) / threshold), 0), most * steps)
    neuron = BurstNeuron(most, tensor(float(threshold)))
    neuron.v_init = tensor(float(v_init))
    shown = tensor(float(current)).view(1, 1)
    emission = neuron.emit(shown, None, steps, static=True)
    assert emission.counts is not None
    assert emission.counts.item() == wanted
    assert emission.total.item() == wanted * float(threshold)
    rate = neuron.expected_rate(shown, steps).item()
    assert rate == pytest.approx(wanted * float(threshold) / steps, abs=1e-15)


def test_expected_rates_go_up_to_as_many_spikes_as_a_step_allows() -> None:
    # T = 2, threshold 2: a step of 1, up to 3 spikes a step.
    x = tensor(-1.0, 0.6, 2.4, 5.4, 6.4, 9.0).requires_grad_()
    rates = expected_rate(x, 2, tensor(2.0), tensor(1.0), most=3)
    assert rates.tolist() == [0.0, 1.0, 2.0, 5.0, 6.0, 6.0]
    rates.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_what_came_too_early_is_taken_back() -> None:
    # A mean current of 0 that comes as +1, +1, -1, -1: the binary neuron has fired, and can't undo it.
    uneven = column([1.0, 1.0, -1.0, -1.0])
    binary, _ = IFNeuron(tensor(1.0))(uneven.clone(), None, 4)
    signed, _ = SignedNeuron(tensor(1.0))(uneven, None, 4)
    assert binary.mean().item() == 0.5
    assert signed.mean().item() == 0.0
    assert signed.flatten().tolist() == [1.0, 1.0, -1.0, -1.0]


def test_emitted_spikes_count_with_either_sign() -> None:
    emission = SignedNeuron(tensor(1.0)).emit(column([1.0, 1.0, -1.0, -1.0]), None, 4)
    assert emission.counts is not None
    assert (emission.counts.item(), emission.total.item()) == (4.0, 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 3, 9])
def test_the_state_carries_on_where_the_last_call_ended(kind: str, cut: int) -> None:
    neuron = KINDS[kind](torch.tensor([0.7, 1.3, 0.4]))
    current = 0.8 * torch.randn(10, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    whole, end = neuron(current.clone(), None, 10)
    assert whole.unique().numel() > 4
    state, parts, totals = None, [], []
    for part in current.split(cut):
        output, after = neuron(part, state, len(part))
        emission = neuron.emit(part, state, len(part))
        assert torch.equal(emission.state, after)
        assert torch.equal(emission.output.unpack(), output)
        state = after
        parts.append(output)
        totals.append(emission.total)
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(state, end)
    assert torch.allclose(sum(totals), whole.sum(0), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_inference_starts_afresh(kind: str) -> None:
    neuron = KINDS[kind](torch.tensor([0.5]))
    current = torch.randn(6, 2, 1, generator=torch.Generator().manual_seed(1))
    first, _ = neuron(current.clone(), None, 6)
    neuron(100 * current, None, 6)
    assert torch.equal(neuron(current, None, 6)[0], first)


@pytest.mark.parametrize("most", [0, -1, 128, 1.5, True, "2"])
def test_a_burst_has_one_spike_or_more(most: int) -> None:
    with pytest.raises(SettingsError, match="spikes a time step must be a whole number from 1 to 127, got"):
        BurstNeuron(most)
