import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snn_lightning.errors import ConversionError
from snn_lightning.graph import GraphSettings, normalise, prepare
from snn_lightning.graph.passes.pooling import depthwise

from ..toys import MaxPooled, PlainConv, Signal, inputs, toy
from .nets import images, net

POOLS = [
    (nn.AvgPool2d(2), (8, 6)),
    (nn.AvgPool2d(3, 2, 1), (9, 7)),
    (nn.AvgPool2d((2, 4), stride=(1, 2)), (8, 8)),
    (nn.AvgPool2d(2, ceil_mode=True), (8, 8)),
    (nn.AvgPool1d(4, 2, 1), (16,)),
    (nn.AvgPool3d(2), (4, 4, 6)),
    (nn.AdaptiveAvgPool2d(1), (8, 6)),
    (nn.AdaptiveAvgPool2d((2, 3)), (8, 6)),
    (nn.AdaptiveAvgPool2d((None, 2)), (3, 4)),
    (nn.AdaptiveAvgPool1d(4), (16,)),
    (nn.AdaptiveAvgPool3d(2), (4, 4, 6)),
]


@pytest.mark.parametrize(("pool", "size"), POOLS, ids=str)
def test_average_pooling_is_a_depthwise_convolution(pool: nn.Module, size: tuple[int, ...]) -> None:
    # Windows of 2^n dyadic values: the two are exactly equal; 3 x 3 to float64 precision.
    x = torch.randint(-64, 64, (2, 5, *size), generator=torch.Generator().manual_seed(0)).double() / 8
    conv = depthwise(pool, 5, size).double()
    window = conv.weight[0].numel()
    conv.weight = nn.Parameter(torch.full_like(conv.weight, 1.0 / window), requires_grad=False)
    if window & (window - 1) == 0:
        assert torch.equal(conv(x), pool(x))
    else:
        assert torch.allclose(conv(x), pool(x), rtol=0, atol=1e-13)


def test_the_kernel_by_hand() -> None:
    conv = depthwise(nn.AvgPool2d((2, 5)), 3, (4, 10))
    assert conv.weight.shape == (3, 1, 2, 5)
    assert conv.groups == 3
    assert torch.equal(conv.weight, torch.full((3, 1, 2, 5), 0.1))
    assert torch.equal(conv.bias, torch.zeros(3))


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (
            nn.AdaptiveAvgPool2d(3),
            r"\(8, 8\) to \(3, 3\) has uneven windows; use convert_avg_pool=False",
        ),
        (
            nn.AvgPool2d(3, 2, ceil_mode=True),
            "ceil_mode or uncounted padding is no convolution; use convert_avg_pool=False",
        ),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "convert_avg_pool=False"),
        (nn.AvgPool2d(2, divisor_override=3), "convert_avg_pool=False"),
    ],
    ids=["adaptive", "ceil", "padding", "divisor"],
)
def test_pooling_that_is_no_convolution_is_refused(pool: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        depthwise(pool, 3, (8, 8))


@pytest.mark.parametrize("cls", [PlainConv, Signal])
def test_average_pooling_gets_sites_of_its_own(cls: type[nn.Module]) -> None:
    ann, x = toy(cls), inputs(cls, 4)
    plain = normalise(ann, x)
    network = prepare(plain, x, GraphSettings(convert_avg_pool=True))
    pools = [name for name, node in plain.nodes.items() if "AvgPool" in node.op]
    assert pools
    assert set(network.sites) - set(plain.sites) == set(pools)
    assert not any("AvgPool" in node.op for node in network.nodes.values())
    with torch.no_grad():
        assert torch.allclose(network(x), ann(x), atol=1e-5)
    assert "AvgPool" in str([node.op for node in plain.nodes.values()])


@pytest.mark.parametrize(
    "body",
    [
        lambda s, x: F.avg_pool2d(s.second(F.relu(s.conv(x))), 2),
        lambda s, x: F.relu(s.conv(F.avg_pool2d(x, 2))),
        lambda s, x: F.avg_pool2d(torch.cat([F.relu(s.conv(x)), x], 1), 2),
    ],
    ids=["signed", "static", "partly signed"],
)
def test_pooling_of_signed_or_static_values_stays(body) -> None:
    ann, x = net(body), images()
    network = prepare(normalise(ann, x), x, GraphSettings(convert_avg_pool=True))
    assert len(network.sites) == 1
    assert any(node.op == "AvgPool2d" for node in network.nodes.values())


def test_gated_max_pooling_is_a_unit_of_its_own() -> None:
    ann, x = toy(MaxPooled), inputs(MaxPooled, 3)
    network = prepare(normalise(ann, x), x)
    assert [stage.kind for stage in network.stages] == ["neuron", "gate", "neuron", "readout"]
    with torch.no_grad():
        assert torch.allclose(network(x), ann(x), atol=1e-5)


def test_kept_max_pooling_is_an_operator() -> None:
    ann, x = toy(MaxPooled), inputs(MaxPooled, 3)
    network = prepare(normalise(ann, x), x, GraphSettings(max_pooling="keep"))
    assert [stage.kind for stage in network.stages] == ["neuron", "neuron", "readout"]
    assert "pool" in network.stages[1].operators


def test_averaged_max_pooling_takes_the_mean_of_what_exists() -> None:
    ann, x = toy(MaxPooled), inputs(MaxPooled, 3)
    network = prepare(normalise(ann, x), x, GraphSettings(max_pooling="average"))
    ann.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    with torch.no_grad():
        assert torch.allclose(network(x), ann(x), atol=1e-5)
    assert network.nodes["pool"].op == "AvgPool2d"


def test_static_max_pooling_needs_no_gate() -> None:
    x = images()
    network = prepare(normalise(net(lambda s, x: F.relu(s.conv(F.max_pool2d(x, 2)))), x), x)
    assert [stage.kind for stage in network.stages] == ["neuron", "readout"][: len(network.stages)]
    assert not network.gates


def test_a_dilated_max_pool_has_no_average() -> None:
    x = images()
    network = normalise(net(lambda s, x: s.second(F.max_pool2d(F.relu(s.conv(x)), 2, dilation=2))), x)
    with pytest.raises(ConversionError, match=r"dilated max pool .*max_pooling='gated'"):
        prepare(network, x, GraphSettings(max_pooling="average"))


def test_preparing_shares_the_parameters() -> None:
    x = inputs(MaxPooled, 3)
    network = normalise(toy(MaxPooled), x)
    for mode in ("gated", "average", "keep"):
        assert (
            prepare(network, x, GraphSettings(max_pooling=mode)).operators["conv1"]
            is network.operators["conv1"]
        )


@pytest.mark.parametrize(("first", "second", "cap"), [(6.0, 2.0, 6.0), (6.0, None, None)])
def test_a_mean_has_the_cap_of_what_it_is_of(first: float, second: float | None, cap: float | None) -> None:
    class Pooled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = [x.clamp(min=0, max=first), x.clamp(min=0, max=second)]
            return F.avg_pool2d(torch.cat(parts, 1), 2)

    x = 20 * torch.rand(2, 3, 4, 4)
    network = prepare(normalise(Pooled(), x), x, GraphSettings(convert_avg_pool=True))
    assert network.nodes[network.sites[-1]].settings == {"cap": cap}
    assert torch.allclose(network(x), Pooled()(x))
