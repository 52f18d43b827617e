"""Spike trains of every kind of neuron come back bit for bit, and take as many bits as they have levels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_lightning.spiking import Burst, IFNeuron, SignedNeuron
from snn_lightning.spiking.packing import SpikeTrain


def random_counts(shape: tuple[int, ...], lowest: int, highest: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(lowest, highest + 1, shape, generator=generator).float()


def amplitudes(channels: int, dims: int) -> Tensor:
    values = torch.rand(channels, generator=torch.Generator().manual_seed(9)) + 0.1
    return values.view(-1, *[1] * (dims - 3))


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=3, max_size=5).map(tuple),
    st.integers(-3, 0),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_trains_come_back_bit_for_bit(shape: tuple[int, ...], lowest: int, highest: int, seed: int) -> None:
    counts, amplitude = random_counts(shape, lowest, highest, seed), amplitudes(shape[2], len(shape))
    train = SpikeTrain.pack(counts, amplitude, lowest, highest)
    assert torch.equal(train.unpack(), counts * amplitude)


@pytest.mark.parametrize(
    ("neuron", "bits"),
    [(IFNeuron(), 1), (SignedNeuron(), 2)]
    + [(Burst(k).build(), bits) for k, bits in ((1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (127, 7))],
)
def test_a_neuron_says_how_many_bits_its_spikes_take(neuron: IFNeuron, bits: int) -> None:
    assert neuron.spike_bits == bits
    neuron.v_th = torch.full((8,), 0.1)
    current = torch.randn(6, 4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    train = neuron.emit(current, None, 6).output
    assert isinstance(train, SpikeTrain)
    assert train.bits.numel() == bits * 6 * 4 * 8 * 16 * 16 // 8


def test_memory_order_is_kept() -> None:
    counts = random_counts((3, 2, 8, 8, 40), -1, 1).permute(0, 1, 4, 2, 3)
    assert SpikeTrain.pack(counts, amplitudes(40, 5), -1, 1).unpack().stride() == counts.stride()


@pytest.mark.parametrize(("lowest", "highest", "bits"), [(0, 1, 1), (-1, 1, 2), (0, 3, 2), (-2, 2, 3)])
def test_dense_values_that_are_spikes_are_found(lowest: int, highest: int, bits: int) -> None:
    values = random_counts((5, 3, 4, 6, 6), lowest, highest) * amplitudes(4, 5)
    values[:, :, 2] = 0
    train = SpikeTrain.of(values)
    assert train is not None
    assert train.planes == bits
    assert torch.equal(train.unpack(), values)


@pytest.mark.parametrize(
    "values",
    [
        torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0.0, 1.0, 8.0]).view(3, 1, 1),
        torch.tensor([1.0, 1.5]).view(2, 1, 1),
        torch.tensor([1.0, float("nan")]).view(2, 1, 1),
        torch.tensor([1.0, float("inf")]).view(2, 1, 1),
    ],
)
def test_other_values_are_none(values: Tensor) -> None:
    assert SpikeTrain.of(values) is None
