"""The bound of PC Theorem 4.1 on small networks."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snn_lightning.analysis.propagation import depth_weights, error_bound, hessians, output_error
from snn_lightning.errors import SettingsError


def chain(sizes: list[int]) -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(a, b), nn.ReLU()).double() for a, b in pairwise(sizes)]


def through(layers: list[nn.Module], x: Tensor, local: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The outputs of the network and of one whose layers make these errors, x - s."""
    s = x
    with torch.no_grad():
        for layer, error in zip(layers, local, strict=True):
            x, s = layer(x), layer(s) - error
    return x, s


def bounded(error: Tensor, bound: float) -> bool:
    return 2 * error.square().sum().item() <= bound * (1 + 1e-9) + 1e-12


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_the_error_of_first_order_stays_below_the_bound(sizes: list[int], seed: int, scale: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers, x = chain(sizes), torch.randn(sizes[0]).double()
        local = [scale * torch.randn(size).double() for size in sizes[1:]]
    assert bounded(output_error(layers, x, local), error_bound(hessians(layers, x), local))


@pytest.mark.parametrize("seed", range(20))
def test_a_small_error_of_the_network_itself_does(seed: int) -> None:
    torch.manual_seed(seed)
    layers, x = chain([4, 5, 5, 3]), torch.randn(4).double()
    local = [1e-6 * torch.randn(size).double() for size in (5, 5, 3)]
    output, spiking = through(layers, x, local)
    # No neuron crosses the kink of its ReLU, so that the first order is all.
    torch.testing.assert_close(output - spiking, output_error(layers, x, local), rtol=1e-6, atol=1e-14)
    assert bounded(output - spiking, error_bound(hessians(layers, x), local))


def test_an_error_across_the_kink_can_exceed_the_bound() -> None:
    first, second = chain([1, 1, 1])
    for layer, bias in ((first, -1.0), (second, -0.5)):
        nn.init.ones_(layer[0].weight)
        nn.init.constant_(layer[0].bias, bias)
    # Silent in the ANN, and it fires in the SNN: 1 - 0.5 arrives at the output, whose gradient is 0.
    x, local = torch.zeros(1).double(), [-torch.ones(1).double(), torch.zeros(1).double()]
    output, spiking = through([first, second], x, local)
    assert (output - spiking).item() == -0.5
    assert error_bound(hessians([first, second], x), local) == 0.0


def test_hessians_by_hand() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(2, 3).double(), nn.Linear(3, 2).double()
    found = hessians([first, second], torch.ones(2).double())
    weight = second.weight.detach()
    torch.testing.assert_close(found[0], 2 * weight.T @ weight)
    torch.testing.assert_close(found[1], 2 * torch.eye(2).double())


def test_the_bound_by_hand() -> None:
    found = [torch.diag(torch.tensor([1.0, 2.0])), torch.eye(1) * 2]
    local = [torch.tensor([1.0, -1.0]), torch.tensor([3.0])]
    assert error_bound(found, local) == 4 * (1 + 2) + 2 * 18
    assert depth_weights(2) == [4.0, 2.0]


def test_a_missing_error() -> None:
    layer = nn.Linear(1, 1)
    with pytest.raises(SettingsError, match="local_errors must be one a layer: 2, got 1"):
        output_error([layer, layer], torch.ones(1), [torch.ones(1)])
    with pytest.raises(SettingsError, match="local_errors must be one a layer: 1, got 0"):
        error_bound([torch.eye(1)], [])
