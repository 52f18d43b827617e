"""Operators and rules of another package."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import ACP, Weights, calibrate, convert, rescale_to_unit_spikes
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.errors import ConversionError, SettingsError
from snn_lightning.graph import StageNetwork, normalise
from snn_lightning.graph.capture.lowering import Lowering, Value
from snn_lightning.graph.capture.registry import module_rule
from snn_lightning.graph.operators import Traits, register_operator


class Turn(nn.Module):
    """The layer of somebody's network that is written as `Flip`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)


class Blend(nn.Module):
    """The layer of somebody's network that is written as `Mix`."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensordot(x, self.mixing, ([1], [1])).movedim(-1, 1)


@register_operator
class Flip(nn.Module):
    """Reverses dimensions."""

    traits = Traits(("dims",), moves=True)

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        """Reverse `[B, ...]`."""
        return x.flip(self.dims)


@register_operator
class Mix(nn.Module):
    """Mixes channels at each place: a synapse of our own."""

    traits = Traits(("inputs", "outputs"), weighted=True, fresh=True)

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.bias = inputs, outputs, None
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Mix `[B, C, ...]`."""
        return torch.tensordot(x, self.weight, ([1], [1])).movedim(-1, 1)


@module_rule(Turn)
def _turn(low: Lowering, module: Turn, x: Value) -> Value:
    return low.add(Flip, [x], {"dims": (1,)})


@module_rule(Blend)
def _blend(low: Lowering, module: Blend, x: Value) -> Value:
    outputs, inputs = module.mixing.shape
    mix = Mix(inputs, outputs)
    mix.weight = nn.Parameter(module.mixing.detach().clone(), requires_grad=False)
    return low.add(Mix, [x], {"inputs": inputs, "outputs": outputs}, mix)


@pytest.fixture
def ann() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), Turn(), Blend(), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 3))
    return nn.Sequential(*layers).eval()


IMAGES = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_they_convert_and_are_described_by_qualified_names(ann: nn.Module) -> None:
    network = normalise(ann, IMAGES)
    assert [node.op for node in network.nodes.values()][2:4] == ["tests.Flip", "tests.Mix"]
    rebuilt = StageNetwork.from_spec(network.spec())
    rebuilt.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt(IMAGES), network(IMAGES))
        assert torch.allclose(network(IMAGES), ann(IMAGES), atol=1e-5)


def test_their_traits_are_asked(ann: nn.Module) -> None:
    snn = convert(ann, IMAGES, 4)
    found = measure_energy(snn, IMAGES).stages
    spikes = found[0].spikes
    # Turned spikes are as many, and each reaches the five outputs of the mixture.
    assert found[1].accumulates == pytest.approx(5 * spikes)
    assert found[1].ann == 5 * 4 * 36
    assert torch.allclose(rescale_to_unit_spikes(snn)(IMAGES), snn(IMAGES), atol=1e-4)


def test_their_weights_are_trained(ann: nn.Module) -> None:
    snn = calibrate(ann, [IMAGES], ACP(4, weights=Weights(3, batch_size=12)), progress=False)
    # A stage without weights to train has no losses.
    assert {"loss_0", "loss_1", "loss_2", "kept"} <= set(snn.records[1]["steps"]["weights"])


def test_a_name_is_registered_once() -> None:
    with pytest.raises(SettingsError, match=r"operator .tests\.Flip. is registered already"):
        register_operator(Flip)


def test_an_operator_that_is_not_registered() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) / 2

    @module_rule(Half)
    def _half(low: Lowering, module: Half, x: Value) -> Value:
        return low.add(Half, [x], {})

    with pytest.raises((SettingsError, ConversionError), match="put @register_operator on it"):
        normalise(nn.Sequential(nn.Linear(3, 3), Half(), nn.ReLU()), torch.randn(2, 3))
