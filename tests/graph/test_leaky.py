"""Leaky activations are a pair of sites, one for each sign, and compute the same as the ANN."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import convert, rescale_to_unit_spikes
from snn_lightning.errors import ConversionError
from snn_lightning.graph import normalise

from .nets import images, net
from .test_sites import assert_equal

SLOPES = torch.tensor([0.3, -0.2, 1.7, 0.0])


def between(activation: nn.Module) -> nn.Module:
    """Return a network with a module between its two convolutions."""
    ann = net(lambda s, x: s.second(s.activation(s.norm(s.conv(x)))))
    ann.activation = activation
    return ann.eval()


def prelu(slopes: Tensor) -> nn.PReLU:
    leaky = nn.PReLU(slopes.numel())
    leaky.weight.data = slopes.clone()
    return leaky


def in_place(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[Any, Tensor], Tensor]:
    """The result stands where the current stood, for whoever holds it."""

    def body(s: Any, x: Tensor) -> Tensor:
        x = s.conv(x)
        y = x
        function(x, *args, **kwargs)
        return s.second(y) + x

    return body


MODULES: dict[str, tuple[int, nn.Module]] = {
    "LeakyReLU": (2, nn.LeakyReLU()),
    "LeakyReLU in place": (2, nn.LeakyReLU(0.2, inplace=True)),
    "LeakyReLU of negative slope": (2, nn.LeakyReLU(-0.5)),
    "LeakyReLU of large slope": (2, nn.LeakyReLU(1.5)),
    "LeakyReLU of slope one": (2, nn.LeakyReLU(1.0)),
    "LeakyReLU of slope zero": (1, nn.LeakyReLU(0.0)),
    "LeakyReLU called twice": (4, nn.Sequential(*[nn.LeakyReLU(0.1)] * 2)),
    "PReLU": (2, prelu(torch.tensor([0.25]))),
    "PReLU a channel": (2, prelu(SLOPES)),
    "RReLU": (2, nn.RReLU()),
    "RReLU in place": (2, nn.RReLU(0.1, 0.2, inplace=True)),
}
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "F.leaky_relu": (2, lambda s, x: s.second(F.leaky_relu(s.conv(x), 0.2))),
    "F.leaky_relu by name": (2, lambda s, x: s.second(F.leaky_relu(s.conv(x), negative_slope=0.3))),
    "F.leaky_relu in place": (2, in_place(F.leaky_relu, 0.2, inplace=True)),
    "F.leaky_relu_": (2, in_place(F.leaky_relu_, 0.2)),
    "F.prelu": (2, lambda s, x: s.second(F.prelu(s.conv(x), SLOPES))),
    "torch.prelu": (2, lambda s, x: s.second(torch.prelu(s.conv(x), SLOPES[:1]))),
    "prelu method": (2, lambda s, x: s.second(s.conv(x).prelu(SLOPES))),
    "prelu of vectors": (2, lambda s, x: s.linear(F.prelu(s.conv(x).mean((2, 3)), SLOPES))),
    "F.rrelu": (2, lambda s, x: s.second(F.rrelu(s.conv(x), training=s.training))),
    "torch.rrelu": (2, lambda s, x: s.second(torch.rrelu(s.conv(x), 0.2, 0.4))),
    "F.rrelu_": (2, in_place(F.rrelu_, 0.3, 0.5)),
    "torch.rrelu_": (2, in_place(torch.rrelu_, 0.3, 0.5)),
    "on the input": (2, lambda s, x: s.conv(F.leaky_relu(x, 0.1))),
    "between others": (4, lambda s, x: F.relu(s.second(F.leaky_relu(F.relu(s.conv(x)) - 1)))),
}


@pytest.mark.parametrize("form", [*MODULES, *FUNCTIONS])
def test_every_form_of_leaky_activation_is_a_pair_of_sites(form: str) -> None:
    sites, written = (MODULES | FUNCTIONS)[form]
    ann, x = between(written) if isinstance(written, nn.Module) else net(written), images()
    before = x.clone()
    network = normalise(ann, x)
    assert torch.equal(x, before)
    assert len(network.sites) == sites
    assert_equal(ann, network, images(5))


@pytest.mark.parametrize("form", ["LeakyReLU called twice", "PReLU a channel"])
def test_unit_spikes_come_from_both_of_a_pair(form: str) -> None:
    ann, x = between(MODULES[form][1]).double(), images(2).double()
    snn = convert(ann, x, 8)
    unit = rescale_to_unit_spikes(snn)
    assert torch.allclose(unit(x), snn(x), rtol=1e-9, atol=1e-12)
    assert all(set(train.unique().tolist()) == {0.0, 1.0} for train in unit.spikes(x).values())


@pytest.mark.parametrize("slope", [-0.5, 0.01, 0.3, 1.0, 2.5])
def test_the_pair_is_the_leaky_relu_bit_for_bit(slope: float) -> None:
    x = images()
    network = normalise(nn.Sequential(nn.LeakyReLU(slope)), x)
    assert torch.equal(network(x), F.leaky_relu(x, slope))


def test_the_pair_of_a_batch_normed_convolution() -> None:
    """The batch norm is folded first, and both sites read the one convolution."""
    network = normalise(between(nn.LeakyReLU(0.1)), images())
    assert [node.op for node in network.nodes.values()] == [
        "Conv2d",
        "Activation",
        "Scale",
        "Activation",
        "Add",
        "Conv2d",
    ]
    first, second, readout = network.stages
    assert (first.operators, first.exports) == (("conv",), ("conv",))
    assert second.inputs == ("conv",)
    assert set(readout.inputs) == {first.name, second.name}


def test_a_slope_that_is_an_activation_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"prelu in the top module .*product of two activations"):
        normalise(net(lambda s, x: F.prelu(s.conv(x), s.conv(x).mean((0, 2, 3)))), images())


def test_a_slope_that_stays_random_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"rrelu in the top module .*pass training=self\.training"):
        normalise(net(lambda s, x: F.rrelu(s.conv(x), training=True)), images())


@pytest.mark.parametrize("smooth", [nn.ELU(), nn.CELU(), nn.SELU(), nn.Softplus(), nn.Mish()], ids=str)
def test_smooth_relatives_are_refused(smooth: nn.Module) -> None:
    with pytest.raises(ConversionError, match=f"{type(smooth).__name__} in .*train with ReLU or ReLU6"):
        normalise(between(smooth), images())
