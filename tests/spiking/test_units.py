import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snn_lightning.errors import SettingsError
from snn_lightning.spiking import GatedMaxPool, IFNeuron, Readout
from snn_lightning.spiking.neurons.dynamics import clip_floor, clip_round

dyadic = st.integers(-64, 256).map(lambda n: n / 64)


@given(dyadic, st.integers(1, 128).map(lambda n: n / 32), st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
def test_each_rounding_has_the_rate_of_theory_at_constant_current(x: float, v_th: float, steps: int) -> None:
    current = torch.tensor([[x]], dtype=torch.float64)
    threshold = torch.tensor(v_th, dtype=torch.float64)
    theory = {"floor": clip_floor, "potential": clip_round, "bias": clip_round}
    for rounding, function in theory.items():
        neuron = IFNeuron(threshold, rounding, steps)
        train, _ = neuron(current, None, steps, static=True)
        wanted = function(current, steps, threshold)
        assert torch.equal(train.mean(0), wanted), rounding
        assert torch.equal(neuron.expected_rate(current, steps), wanted), rounding
        assert set(train.flatten().tolist()) <= {0.0, v_th}


@pytest.mark.parametrize(
    ("rounding", "v_init", "bias"), [("potential", 1.5, 0.0), ("bias", 0.0, 0.1875), ("floor", 0.0, 0.0)]
)
def test_roundings_by_hand(rounding: str, v_init: float, bias: float) -> None:
    neuron = IFNeuron(torch.tensor([3.0, 3.0]), rounding, timesteps=8)
    assert neuron.v_init.tolist() == [v_init, v_init]
    assert neuron.bias.tolist() == [bias, bias]


def test_channels_have_thresholds_of_their_own() -> None:
    neuron = IFNeuron(torch.tensor([1.0, 2.0]), "floor")
    spikes, _ = neuron(torch.full((1, 2, 1, 1), 1.0), None, 4, static=True)
    assert spikes[:, 0, 0].flatten().tolist() == [1, 1, 1, 1]
    assert spikes[:, 0, 1].flatten().tolist() == [0, 2, 0, 2]


def test_a_bias_comes_at_every_step() -> None:
    neuron = IFNeuron(torch.tensor([1.0]), "floor")
    neuron.bias = torch.tensor([0.25])
    spikes, v = neuron(torch.full((6, 1, 1), 0.25), None, 6)
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0, 1]
    assert v.item() == 0.0


def test_each_inference_starts_at_the_initial_potential() -> None:
    neuron = IFNeuron(torch.tensor([1.0, 2.0]))
    neuron.v_init = torch.tensor([[0.9, 0.1], [0.5, 1.5]])
    current = torch.full((1, 2, 2), 0.4)
    first, _ = neuron(current, None, 3, static=True)
    second, _ = neuron(current, None, 3, static=True)
    assert torch.equal(first, second)
    assert first[0].tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    assert neuron.v_init.tolist() == [pytest.approx([0.9, 0.1]), [0.5, 1.5]]


def test_the_state_carries_on_where_the_last_call_ended() -> None:
    neuron = IFNeuron(torch.tensor([0.7, 1.3]))
    current = torch.randn(10, 4, 2, generator=torch.Generator().manual_seed(0))
    whole, v_whole = neuron(current, None, 10)
    first, state = neuron(current[:3], None, 3)
    second, v = neuron(current[3:], state, 7)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(v, v_whole)


@pytest.mark.parametrize("v_th", [0.0, -1.0, float("nan"), float("inf")])
def test_thresholds_must_be_positive_and_finite(v_th: float) -> None:
    with pytest.raises(SettingsError, match="v_th must be positive and finite"):
        IFNeuron(torch.tensor([1.0, v_th]))


def test_an_unknown_rounding_is_named() -> None:
    with pytest.raises(SettingsError, match="rounding must be one of potential, bias, floor, got 'ceil'"):
        IFNeuron(torch.tensor(1.0), "ceil")


def test_a_readout_integrates_and_never_fires() -> None:
    readout = Readout()
    readout.bias = torch.tensor([0.5, -1.0])
    outputs, state = readout(torch.tensor([[[-3.0, 9.0]], [[1.0, 1.0]]]), None, 2)
    assert outputs.tolist() == [[[-2.5, 8.0]], [[1.5, 0.0]]]
    assert state is None
    assert readout(torch.tensor([[1.0, 1.0]]), None, 2, static=True)[0].tolist() == [[[1.5, 0.0]]] * 2
    assert readout.expected_rate(torch.tensor([[1.0, 1.0]]), 2).tolist() == [[1.5, 0.0]]


def trains(rates: list[float], steps: int) -> torch.Tensor:
    """Even spike trains of value 1, `[T, 1, 1, len(rates)]`."""
    neuron = IFNeuron(torch.tensor(1.0))
    return neuron(torch.tensor(rates)[None, None], None, steps, static=True)[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)], ids=str)
def test_the_rate_of_a_gate_is_the_maximum_of_the_rates(seed: int, pool: nn.Module) -> None:
    generator = torch.Generator().manual_seed(seed)
    v_th = torch.rand(3, 1, 1, generator=generator) + 0.1
    spikes = (torch.rand(40, 2, 3, 7, 7, generator=generator) < torch.rand(7, 7, generator=generator)) * v_th
    output, total = GatedMaxPool(pool)(spikes, None, 40)
    assert torch.allclose(output.sum(0), pool(spikes.sum(0)), rtol=1e-5)
    assert torch.allclose(total.float(), spikes.sum(0), rtol=1e-5)
    # And it gives spikes again, to the last bit.
    assert ((output == 0) | (output == v_th)).all()


@pytest.mark.parametrize(("lowest", "highest"), [(-1, 1), (0, 2), (0, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_the_rate_of_a_gate_is_the_maximum_for_graded_spikes_too(
    seed: int, lowest: int, highest: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    v_th = torch.rand(3, 1, 1, generator=generator) + 0.1
    counts = torch.randint(lowest, highest + 1, (60, 2, 3, 6, 6), generator=generator).float()
    pool = nn.MaxPool2d(2)
    output, _ = GatedMaxPool(pool)(counts * v_th, None, 60)
    # By whole numbers: sums of counts over time, their maximum in each window, its growth.
    largest = pool(counts.cumsum(0).flatten(0, 1)).view(60, 2, 3, 3, 3)
    growth = largest.diff(dim=0, prepend=torch.zeros_like(largest[:1]))
    assert growth.min() == lowest
    # To the last bit, as long as n * v_th is exact: no rounding is left where sums go up and down.
    assert torch.allclose(output, growth * v_th, rtol=0, atol=1e-6)
    assert torch.equal(output, growth * v_th) == (highest < 3)


def test_the_maximum_of_spikes_is_not_what_a_gate_gives() -> None:
    # Two inputs that fire in turns: both rates are a half, and so is their maximum.
    spikes = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 8).view(16, 1, 1, 2)
    gated, _ = GatedMaxPool(nn.MaxPool1d(2))(spikes, None, 16)
    assert gated.sum().item() == spikes.sum(0).max().item() == 8
    assert spikes.amax(-1).sum().item() == 16


def test_a_gate_passes_the_growth_of_the_largest_sum() -> None:
    values = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0], [-1.0, -2.0]]).view(4, 1, 1, 2)
    # Sums: 0 1 | 2 2 | 2 3 | 1 1
    assert GatedMaxPool(nn.MaxPool1d(2))(values, None, 4)[0].flatten().tolist() == [1.0, 1.0, 1.0, -2.0]


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(2, 1, dilation=2),
        nn.AdaptiveMaxPool2d(3),
    ],
    ids=str,
)
def test_a_gate_has_the_windows_of_the_max_pool(pool: nn.Module) -> None:
    x = torch.rand(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gated, _ = GatedMaxPool(pool)(x, None, 1)
    assert torch.equal(gated[0], pool(x[0]))


def test_a_gate_carries_its_totals_on() -> None:
    x = torch.rand(6, 2, 3, 8, generator=torch.Generator().manual_seed(0))
    gate = GatedMaxPool(nn.MaxPool1d(2))
    whole, _ = gate(x, None, 6)
    first, state = gate(x[:2], None, 2)
    kept = state.clone()
    second, _ = gate(x[2:], state, 4)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(state, kept)


def test_a_gate_refuses_static_values() -> None:
    with pytest.raises(SettingsError, match="temporal input"):
        GatedMaxPool(nn.MaxPool1d(2))(torch.ones(1, 1, 2), None, 4, static=True)
