"""What the user leaves analog is a leaf of the graph, described, rebuilt and reported."""

import copy
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import LCP, conversion_report, convert, load_converted, save_converted
from snn_lightning.analysis.mismatch import measure_mismatch
from snn_lightning.errors import CheckpointError, ConversionError, SettingsError
from snn_lightning.graph import GraphSettings, StageNetwork, normalise
from snn_lightning.graph.capture.bounded import BoundedActivation
from snn_lightning.graph.operators.analog import function_name, functions
from snn_lightning.spiking.checkpoint import rebuild_spiking_model, write_spec
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.model import SpikingModel

from ..spiking.older import older_spec
from ..toys import PlainConv, inputs, toy
from .nets import images, net


class Gated(nn.Module):
    """Squeeze-excitation as torchvision writes it."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()


class Choosy(nn.Module):
    """Control flow, numbers of another type, and two tensors in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x: Tensor, factor: float = 1.0) -> dict[str, Any]:
        if x.sum() > 0:
            x = x * (factor * self.scale).float()
        return {"mean": x.mean((2, 3)), "scores": [self.linear(x.mean((2, 3))), None]}


class Together(nn.Module):
    """A convolution, and whatever stands behind it."""

    def __init__(self, part: nn.Module, body: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.conv, self.bn, self.part = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), part
        self.body = body

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.bn(self.conv(x)))
        return self.part(x) if self.body is None else self.body(self.part, x)


def together(part: nn.Module, body: Callable[..., Any] | None = None) -> nn.Module:
    torch.manual_seed(0)
    return Together(part, body).eval()


def operators(network: StageNetwork) -> list[str]:
    names = (network.title(name) for name in network.nodes)
    return [name.removeprefix("analog ") for name in names if name.startswith("analog ")]


def assert_same(ann: nn.Module, network: StageNetwork, x: Tensor) -> None:
    """The network, and the one its description gives, compute what the ANN does."""
    rebuilt = StageNetwork.from_spec(network.spec(), network.state_dict(), ann).eval()
    rebuilt.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network(x.clone()), ann(x.clone()))
        for other in (rebuilt, copy.deepcopy(network)):
            torch.testing.assert_close(other(x.clone()), network(x.clone()), rtol=0, atol=0)


FUNCTIONS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "sigmoid": (("sigmoid",), lambda s, x: torch.sigmoid(s.conv(x).relu())),
    "method": (("sigmoid",), lambda s, x: s.second(s.conv(x).relu()).sigmoid()),
    "in place": (("sigmoid_",), lambda s, x: (y := s.conv(x).relu(), y.sigmoid_(), s.second(y))[2]),
    "in place function": (("sigmoid_",), lambda s, x: s.second(torch.sigmoid_(s.conv(x).relu()))),
    "inplace argument": (("hardswish",), lambda s, x: s.second(F.hardswish(s.conv(x).relu(), True))),
    "product in place": (("mul_",), lambda s, x: (y := s.conv(x).relu()).mul_(s.second(y)) + y),
    "softmax": (("softmax",), lambda s, x: s.second(F.softmax(s.conv(x).relu(), 1))),
    "product": (("mul",), lambda s, x: s.conv(x).relu() * s.second(s.conv(x))),
    "quotient": (("truediv",), lambda s, x: 1 / (1 + s.conv(x).relu())),
    "norm": (("layer_norm",), lambda s, x: F.layer_norm(s.conv(x).relu(), [6, 6], None, None, 1e-3)),
    "constant": (("getitem",), lambda s, x: s.conv(x).relu()[:, torch.tensor([0, 2]), ..., 1:]),
    "several": (("topk",), lambda s, x: torch.topk(s.conv(x).relu(), 2, 1)[0] - 1),
    "several by name": (("max",), lambda s, x: s.conv(x).relu().max(1).values + 1),
    "all of several": (("topk",), lambda s, x: [(y := s.conv(x).relu().topk(2, 1))[0], y[1], y]),
    "comparison": (("where", "gt"), lambda s, x: torch.where(s.conv(x).relu() > 1, s.conv(x), 0)),
    "of a mask": (("gt", "mul"), lambda s, x: s.conv(x).relu() * (s.second(s.conv(x)) > 0)),
    "list": (("hstack",), lambda s, x: torch.hstack([s.conv(x).relu(), s.second(s.conv(x))])),
    "index": (
        ("index_select",),
        lambda s, x: s.conv(x).relu().index_select(1, torch.tensor([3])),
    ),
    "attention": (
        ("scaled_dot_product_attention",),
        lambda s, x: F.scaled_dot_product_attention(y := s.conv(x).relu(), y, y, scale=0.5),
    ),
    "class token": (
        ("cat",),
        lambda s, x: torch.cat(
            [s.conv.bias.view(1, 4, 1, 1).expand(x.shape[0], 4, 6, 6), F.relu(s.conv(x))], 1
        ),
    ),
    "static": (("std", "truediv"), lambda s, x: s.conv(x / x.std((1, 2, 3), keepdim=True)).relu()),
    "type": (("cumsum",), lambda s, x: s.conv(x).relu().cumsum(1, dtype=torch.float32)),
    "tuple of sizes": (("expand_as",), lambda s, x: s.conv(x).relu().mean((2, 3), True).expand_as(s.conv(x))),
}


@pytest.mark.parametrize("case", FUNCTIONS)
@pytest.mark.parametrize("auto", [False, True])
def test_a_function_is_left_analog(case: str, auto: bool) -> None:
    names, body = FUNCTIONS[case]
    ann = net(body)
    network = normalise(ann, images(5), analog=("auto",) if auto else names)
    assert set(operators(network)) == set(names)
    assert_same(ann, network, images(5))


MODULES: dict[str, tuple[nn.Module, Callable[..., Any] | None]] = {
    "Sigmoid": (nn.Sigmoid(), None),
    "GroupNorm": (nn.GroupNorm(2, 4), None),
    "Softmax": (nn.Softmax(1), None),
    "Hardswish": (nn.Hardswish(inplace=True), None),
    "LSTM": (nn.LSTM(6, 3, batch_first=True), lambda part, x: part(x.mean(1))[0]),
    "GRU": (nn.GRU(6, 3, 2, bidirectional=True, batch_first=True), lambda part, x: part(x.mean(1))[0]),
    "MultiheadAttention": (
        nn.MultiheadAttention(6, 2, batch_first=True),
        lambda part, x: part(y := x.mean(1), y, y, need_weights=False)[0],
    ),
}


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("pattern", ["kind", "part", "pa*", "auto"])
def test_a_module_of_torch_is_in_the_description(kind: str, pattern: str) -> None:
    part, body = MODULES[kind]
    ann = together(part, body)
    x = torch.randn(5, 3, 8, 8)
    network = normalise(ann, x, analog=(kind if pattern == "kind" else pattern,))
    assert operators(network) == [kind]
    assert not any("module" in node.settings for node in network.nodes.values())
    rebuilt = StageNetwork.from_spec(network.spec(), network.state_dict())
    rebuilt.load_state_dict(network.state_dict())
    assert_same(ann, network, x)
    # A batch norm in a module, or dropout, must not wake up.
    assert not any(m.training for m in network.train().operators[network.output].modules())


def test_a_gate_converts_but_for_its_product_and_its_sigmoid() -> None:
    ann, x = together(Gated()), torch.randn(5, 3, 8, 8)
    network = normalise(ann, x, analog=("auto",))
    assert operators(network) == ["sigmoid", "mul"]
    assert len(network.sites) == 2
    assert_same(ann, network, x)
    whole = normalise(ann, x, analog=("Gated",))
    assert operators(whole) == ["Gated"]
    assert len(whole.sites) == 1


def test_a_batch_norm_behind_an_analog_operator_is_affine() -> None:
    ann, x = together(nn.Sequential(nn.Sigmoid(), nn.BatchNorm2d(4))), torch.randn(5, 3, 8, 8)
    network = normalise(ann, x, analog=("Sigmoid",))
    assert [node.op for node in network.nodes.values()][-2:] == ["AnalogModule", "Affine"]
    assert_same(ann, network, x)


def choosy(auto: bool = False) -> tuple[nn.Module, StageNetwork, Tensor]:
    ann = together(Choosy(), lambda part, x: part(x, factor=2.0))
    x = torch.randn(5, 3, 8, 8)
    return ann, normalise(ann, x, analog=("auto",) if auto else ("part",)), x


@pytest.mark.parametrize("auto", [False, True])
def test_a_module_of_the_users_own_is_not_traced(auto: bool) -> None:
    ann, network, x = choosy(auto)
    assert operators(network) == ["Choosy", "Choosy"]
    assert [node.settings.get("leaf") for node in network.nodes.values()][-2:] == [("mean",), ("scores", 0)]
    assert_same(ann, network, x)


def test_only_what_is_read_of_several_results_stays() -> None:
    ann = together(Choosy(), lambda part, x: part(x)["scores"][0])
    network = normalise(ann, torch.randn(5, 3, 8, 8), analog=("part",))
    assert operators(network) == ["Choosy"]


def test_a_shared_module_has_several_names() -> None:
    ann = together(nn.ModuleList([gate := nn.Sigmoid(), gate]), lambda part, x: part[1](part[0](x)))
    network = normalise(ann, torch.randn(5, 3, 8, 8), analog=("part.1",))
    assert operators(network) == ["Sigmoid", "Sigmoid"]


def test_what_a_module_changes_in_place_is_a_copy() -> None:
    part = nn.Sequential(nn.Hardswish(inplace=True), nn.Flatten())
    ann = together(part, lambda part, x: (part(x + 0), x.flatten(1)))
    network = normalise(ann, torch.randn(5, 3, 8, 8), analog=("part",))
    assert network.nodes["part"].settings["in_place"]
    assert_same(ann, network, torch.randn(5, 3, 8, 8))


class Tangled(nn.Module):
    """Merges the batch for a while, so that only the whole is a function of each input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).softmax(1).unflatten(0, (-1, 4))


class Foreign(nn.Module):
    """Calls what is no function of torch."""

    def forward(self, x: Tensor) -> Tensor:
        return foreign(x)


@torch.fx.wrap
def foreign(x: Tensor) -> Tensor:
    return x.exp()


@torch.fx.wrap
def several(x: Tensor) -> dict[str, Tensor]:
    return {"gate": x.mean(1, keepdim=True)}


@pytest.mark.parametrize("part", [Tangled(), Foreign()])
def test_auto_leaves_the_smallest_module_analog_that_can_be(part: nn.Module) -> None:
    ann, x = together(nn.Sequential(nn.Conv2d(4, 4, 1), part, nn.ReLU())), torch.randn(5, 3, 8, 8)
    network = normalise(ann, x, analog=("auto",))
    assert operators(network) == [type(part).__name__]
    assert network.nodes["part_1"].settings["module"] == "part.1"
    assert len(network.sites) == 2


def test_auto_goes_around_an_obstacle_until_it_helps() -> None:
    inner = nn.Sequential(nn.Flatten(0, 1), nn.Softmax(1))
    ann = together(nn.Sequential(inner, nn.Unflatten(0, (-1, 4))))
    network = normalise(ann, torch.randn(5, 3, 8, 8), analog=("auto",))
    assert [node.settings.get("module") for node in network.nodes.values()][-1] == "part"


def test_auto_leaves_a_network_alone_that_converts() -> None:
    network = normalise(toy(PlainConv), inputs(PlainConv, 3), analog=("auto",))
    assert operators(network) == []


@pytest.mark.parametrize("name", ["regnet_y_400mf", "mobilenet_v3_small"])
def test_torchvisions_networks(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    ann = models.get_model(name, weights=None).eval()
    x = torch.randn(2, 3, 64, 64)
    network = normalise(ann, x, analog=("auto",))
    kinds = {"regnet_y_400mf": {"Sigmoid", "mul"}, "mobilenet_v3_small": {"Hardsigmoid", "Hardswish", "mul"}}
    assert set(operators(network)) == kinds[name]
    rebuilt = StageNetwork.from_spec(network.spec(), network.state_dict()).eval()
    rebuilt.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt(x), network(x))
    report = conversion_report(ann.to("meta"), x.to("meta"), analog="auto")
    assert report.sites == len(network.sites)


def test_a_table_says_what_is_left_analog() -> None:
    ann, x = together(Gated()), torch.randn(5, 3, 8, 8)
    report = conversion_report(ann, x, analog=["sigmoid", "mul"])
    assert report.summary == "Convertible: 2 sites become neurons, 2 operators left analog"
    assert "analog sigmoid, analog mul" in str(report)
    assert "1 operator left analog" in conversion_report(ann, x, analog="part").summary
    assert "nothing left analog" in conversion_report(toy(PlainConv), inputs(PlainConv, 2)).summary


def test_a_conversion_remembers_it() -> None:
    settings = Conversion(4, analog=["head", "mul"])
    assert settings.analog == LCP(4, analog=("head", "mul")).analog == ("head", "mul")
    assert Conversion.from_spec(settings.spec()) == settings
    assert GraphSettings(analog="auto").analog == ("auto",)
    snn = convert(toy(PlainConv), inputs(PlainConv, 2), 2, analog="auto")
    assert SpikingModel.from_spec(snn.spec()).conversion.analog == ("auto",)
    assert SpikingModel.from_spec(older_spec(snn)).conversion.analog == ()
    spec = snn.spec()
    del spec["conversion"]["analog"]
    assert SpikingModel.from_spec(spec).conversion.analog == ()


@pytest.mark.parametrize("analog", [3, None, ["head", 3], [""], {"head": True}, ""])
def test_patterns_that_are_none(analog: Any) -> None:
    with pytest.raises(SettingsError, match=r"analog must be names of modules or operators, such as .*got"):
        GraphSettings(analog=analog)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("prat", "unknown analog pattern: 'prat'; did you mean 'part'"),
        ("backbone.body.part.0", r"did you mean 'part\.0'"),
        ("Sigmoi", "unknown analog pattern: 'Sigmoi'; did you mean 'Sigmoid'"),
        ("sigmoid", "unknown analog pattern: 'sigmoid'"),
        ("part.2", r"analog='part.2' names the module 'part.2', which forward never calls"),
    ],
)
def test_a_pattern_that_matches_nothing(pattern: str, message: str) -> None:
    part = nn.ModuleList([nn.Sigmoid(), nn.Identity(), nn.ReLU()])
    ann = together(part, lambda part, x: part[1](part[0](x)))
    for patterns in ((pattern,), ("Sigmoid", pattern)):
        with pytest.raises(ConversionError, match=message):
            normalise(ann, torch.randn(2, 3, 8, 8), analog=patterns)


def test_a_pattern_inside_an_analog_module_is_no_mistake() -> None:
    ann = together(Gated())
    assert operators(normalise(ann, torch.randn(2, 3, 8, 8), analog=("part", "part.up"))) == ["Gated"]


def test_analog_that_leaves_no_site() -> None:
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sigmoid())
    with pytest.raises(ConversionError, match=r"no activation .* outside what is left analog.*leave less of"):
        normalise(ann, torch.randn(2, 3, 8, 8), analog=("*",))


class Counts(nn.Module):
    def forward(self, x: Tensor) -> int:
        return len(x)


class Placed(nn.Module):
    """Takes what no file could keep."""

    def forward(self, x: Tensor, device: torch.device) -> Tensor:
        return x.to(device)


@pytest.mark.parametrize(
    ("part", "body", "message"),
    [
        (
            Counts(),
            None,
            r"Counts in module 'part'.*: it gives a int for 5 inputs, and only what gives tensors",
        ),
        (nn.Flatten(0, 1), None, r"it gives \(20, 6, 6\) for 5 inputs, and only what gives tensors \[N"),
        (
            Placed(),
            lambda part, x: part(x, x.device),
            "it is called with a device, which no file could keep",
        ),
        (
            nn.LSTM(6, 3, 3, batch_first=True),
            lambda part, x: part(x.mean(1))[1][0] + 1,
            "it reads an analog result whose first dimension is not the batch",
        ),
    ],
)
def test_what_can_not_be_left_analog(part: nn.Module, body: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        normalise(together(part, body), torch.randn(2, 3, 8, 8), analog=("part",))


def test_a_size_of_the_batch_is_no_setting() -> None:
    ann = net(lambda s, x: s.conv(x).relu().mean(1, keepdim=True).expand(x.shape[0], 4, 6, 6))
    with pytest.raises(ConversionError, match=r"does not reproduce the ANN: .* the batch size"):
        normalise(ann, images(5), analog=("auto",))


def test_an_analog_result_without_batch_is_no_output() -> None:
    ann = together(nn.LSTM(6, 3, 3, batch_first=True), lambda part, x: part(x.mean(1)))
    with pytest.raises(ConversionError, match=r"returns an analog result of shape \(3, 5, 3\), whose first"):
        normalise(ann, torch.randn(2, 3, 8, 8), analog=("LSTM",))


def test_a_function_of_somebody_else_is_named_with_its_module() -> None:
    ann = together(Foreign())
    with pytest.raises(
        ConversionError, match=r'foreign in module \'part\'.*leave it analog, analog=\("part",'
    ):
        normalise(ann, torch.randn(2, 3, 8, 8))
    with pytest.raises(ConversionError, match=r"it is no function of torch, .* leave the module analog"):
        normalise(ann, torch.randn(2, 3, 8, 8), analog=("foreign",))


def test_refusals_name_the_setting() -> None:
    ann = together(nn.Sequential(nn.GroupNorm(2, 4), Gated(), Choosy()))
    with pytest.raises(
        ConversionError, match=r'forward code of module .part.2.*analog: analog=\("part.2",\)'
    ):
        normalise(ann, torch.randn(2, 3, 8, 8))
    ann.part[2] = nn.Sequential(nn.Flatten(0, 1), nn.ReLU())
    with pytest.raises(ConversionError, match=r'Flatten in module .part.2.0.*leave it .* analog=\("part.2",'):
        normalise(ann, torch.randn(2, 3, 8, 8))
    ann.part[2] = nn.Softmax(1)
    with pytest.raises(ConversionError) as caught:
        normalise(ann, torch.randn(2, 3, 8, 8))
    settings = [str(o).rpartition("analog=")[2] for o in caught.value.obstacles]
    assert settings == ['("GroupNorm",)', '("sigmoid",)', '("mul",)', '("Softmax",)']


def test_the_ann_is_asked_for() -> None:
    network = choosy()[1]
    spec, state = network.spec(), network.state_dict()
    with pytest.raises(
        CheckpointError, match=r"own in it, 'part' \(Choosy\).*load_converted\(path, ann=net\)"
    ):
        StageNetwork.from_spec(spec, state)
    with pytest.raises(CheckpointError, match=r"'part' \(Choosy\), and PlainConv has no such module"):
        StageNetwork.from_spec(spec, state, toy(PlainConv))
    with pytest.raises(CheckpointError, match=r"'part' \(Choosy\), and Together has a Gated there"):
        StageNetwork.from_spec(spec, state, together(Gated()))
    other = together(Choosy())
    other.part.linear = nn.Linear(4, 2)
    with pytest.raises(
        CheckpointError, match=r"asks for a inner.linear.weight of shape \(2, 4\), and the file"
    ):
        StageNetwork.from_spec(spec, state, other)


def test_the_users_module_is_copied_and_its_state_is_the_files() -> None:
    ann, network, x = choosy()
    other = together(Choosy())
    with torch.no_grad():
        other.part.linear.weight.add_(1)
    rebuilt = StageNetwork.from_spec(network.spec(), network.state_dict(), torch.compile(other))
    rebuilt.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(rebuilt(x), ann(x))
    assert not torch.equal(other.part.linear.weight, ann.part.linear.weight)
    # A converted network has them too.
    again = StageNetwork.from_spec(network.spec(), network.state_dict(), rebuilt)
    assert again.operators["part"].inner is not rebuilt.operators["part"].inner


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"function": "torch.load"}, "'torch.load' is no function that a network may call"),
        ({"function": "torch.Tensor.__reduce_ex__"}, "is no function that a network may call"),
        ({"function": "os.system"}, "'os.system' is no function that a network may call"),
        ({"args": ({"value": 1},)}, "does not call with all the values that it reads"),
        ({"args": ({"value": 0}, {"value": 1})}, r"\(AnalogFunction\) reads 1 values instead of 2"),
        ({"args": ({"value": 0}, {"constant": 0})}, "has not all the constants that it calls with"),
        ({"args": ({"value": 0}, {"open": "file"})}, "stands for nothing that can be called with"),
        ({"args": ({"value": 0, "constant": 0},)}, "stands for nothing that can be called with"),
        ({"args": ({"value": 0}, {"dtype": "load"})}, "'load' is no type of numbers"),
        ({"args": (print,)}, "the setting 'args' of 'softmax' is a tuple"),
        ({"constants": (("float32", (10**9,)),)}, r"asks for a constant_0 of shape \(1000000000,\)"),
    ],
)
def test_a_description_calls_no_other_function(change: dict[str, Any], message: str) -> None:
    network = normalise(net(FUNCTIONS["softmax"][1]), images(), analog=("softmax",))
    spec = network.spec()
    node = next(node for node in spec["nodes"] if node["name"] == "softmax")
    node["settings"] |= change
    with pytest.raises(CheckpointError, match=message):
        StageNetwork.from_spec(spec, network.state_dict())


@pytest.mark.parametrize("kind", ["Module.register_forward_hook", "functional", "Parameter", "Nothing"])
def test_a_description_builds_no_other_class(kind: str) -> None:
    network = normalise(together(nn.Sigmoid()), torch.randn(2, 3, 8, 8), analog=("Sigmoid",))
    spec = network.spec()
    spec["nodes"][-1]["settings"]["kind"] = kind
    with pytest.raises(CheckpointError, match=f"torch.nn has no module {kind!r}"):
        StageNetwork.from_spec(spec, network.state_dict())


class Bounded(BoundedActivation):
    """Rounds in the ANN; a site would not."""

    cap = torch.tensor(2.0)

    def activate(self, x: Tensor) -> Tensor:
        return x.clamp(0, 2).round()


def test_an_activation_in_an_analog_module_is_left_too() -> None:
    ann, x = together(nn.Sequential(Bounded(), nn.Tanh())), torch.randn(5, 3, 8, 8)
    assert_same(ann, normalise(ann, x, analog=("part",)), x)


class Holder(nn.Module):
    """A model with a network in it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net = network


def test_checkpoints_with_a_module_of_the_users_own(tmp_path: Path) -> None:
    scale = torch.rand(4, 1, 1)
    ann = together(Choosy(), lambda part, x: part(torch.lerp(x, x.sigmoid(), scale)))
    snn = convert(ann, torch.randn(5, 3, 8, 8), 2, analog=("part", "sigmoid", "lerp"))
    assert "analog numbers" in str(snn)
    save_converted(snn, tmp_path / "snn.ckpt")
    with pytest.raises(CheckpointError, match=r"snn.ckpt' can't be loaded. .*'part' \(Choosy\), whose code"):
        load_converted(tmp_path / "snn.ckpt")
    other = together(Choosy())
    loaded = load_converted(tmp_path / "snn.ckpt", ann=other)
    assert loaded.spec() == snn.spec()
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in snn.state_dict().items())
    assert {key: v.dtype for key, v in loaded.state_dict().items()} == {
        key: v.dtype for key, v in snn.state_dict().items()
    }

    holder, checkpoint = Holder(snn), {"state_dict": Holder(snn).state_dict()}
    write_spec(holder, checkpoint)
    # In place of the ANN, and then of the SNN.
    fresh = Holder(other)
    for _ in range(2):
        rebuild_spiking_model(fresh, checkpoint)
        fresh.load_state_dict(checkpoint["state_dict"])
        assert fresh.net.spec() == snn.spec()
    with pytest.raises(CheckpointError, match=r"'part' .*, and PlainConv has no such module"):
        rebuild_spiking_model(Holder(toy(PlainConv)), checkpoint)


def test_the_functions_are_those_on_tensors() -> None:
    assert {"torch.sigmoid", "torch.nn.functional.softmax", "torch.Tensor.expand_as"} <= functions().keys()
    assert function_name(torch.load) is None
    assert function_name(print) is None
    assert function_name("sigmoid_") == function_name(torch.sigmoid_) == "torch.Tensor.sigmoid_"
    assert function_name(operator.mul) == "operator.mul"
    assert function_name(operator.attrgetter) is None


def test_a_tail_needs_no_setting() -> None:
    """What only reads the network's means is left as it is; the report lists it."""
    ann, x = (
        net(lambda s, x: F.softmax(s.linear(s.conv(x).relu().mean((2, 3))), 1) * 2),
        torch.rand(4, 3, 8, 8),
    )
    report = conversion_report(ann, x)
    assert report.summary == "Convertible: 1 sites become neurons, 1 operator left analog"
    assert report.stages[-1] == ("tail", "analog", "", ["analog softmax", "Scale"])
    snn = convert(ann, x, 256)
    assert snn.windows == 1
    with torch.no_grad():
        torch.testing.assert_close(snn(x), ann(x), rtol=0.02, atol=0.02)
        torch.testing.assert_close(snn.running_mean(x).sum(2), torch.full((256, 4), 2.0))


def test_nothing_in_front_of_a_site_is_a_tail() -> None:
    ann = net(lambda s, x: torch.sigmoid(s.second(torch.tanh(s.conv(x)).relu())))
    with pytest.raises(ConversionError) as caught:
        normalise(ann, torch.rand(4, 3, 8, 8))
    assert [obstacle.operator for obstacle in caught.value.obstacles] == ["tanh", "sigmoid"]


def test_what_changes_something_in_place_in_front_of_a_site_is_no_tail() -> None:
    def changed(s: Any, x: Tensor) -> Tensor:
        h = s.conv(x).relu()
        torch.sigmoid_(h)
        return s.second(h).relu()

    with pytest.raises(ConversionError, match="sigmoid_ in the top module"):
        normalise(net(changed), torch.rand(4, 3, 8, 8))


@pytest.mark.parametrize(
    "body", [lambda s, x: F.softmax(s.conv(x).relu(), 0), lambda s, x: s.conv(x).relu().softmax(0)]
)
@pytest.mark.parametrize("count", [1, 4])
def test_an_operator_that_mixes_images_is_refused(body: Any, count: int) -> None:
    with pytest.raises(
        ConversionError, match="softmax in the top module gives an image something else where"
    ):
        normalise(net(body), torch.rand(count, 3, 8, 8))


def test_a_hidden_state_of_two_layers_has_no_batch_in_front() -> None:
    """Whatever the number of inputs, or of layers."""
    for layers in (2, 5):
        ann = together(nn.GRU(6, 4, layers, batch_first=True), lambda part, x: F.relu(part(x.mean(1))[1] * 3))
        with pytest.raises(ConversionError, match="it reads an analog result whose first dimension is not"):
            normalise(ann, torch.randn(layers, 3, 8, 8), analog=("auto",))


def test_a_constant_with_two_equal_rows_is_not_repeated_for_every_input() -> None:
    ann = net(lambda s, x: torch.lerp(F.relu(s.conv(x)).view(-1, 2, 72), x.flatten(1)[:, None, :72], s.rows))
    ann.rows = nn.Parameter(torch.full((2, 72), 0.5))
    assert_same(ann, normalise(ann, images(5), analog=("lerp",)), images(5))


def with_a_class_token(s: Any, x: Tensor) -> Tensor:
    token = s.conv.bias.view(1, 4, 1, 1).expand(x.shape[0], -1, 6, 6)
    return s.second(F.relu(s.conv(torch.cat([token, F.relu(s.conv(x))], 2)[:, :3])))


def with_an_lstm(s: Any, x: Tensor) -> Tensor:
    return F.relu(s.linear(s.part(F.relu(s.conv(x)).flatten(2).transpose(1, 2))[0][:, -1]))


@pytest.mark.parametrize("body", [with_a_class_token, with_an_lstm])
def test_a_sample_of_one_input_is_enough(body: Callable[..., Any]) -> None:
    ann = net(body)
    ann.part = nn.LSTM(4, 4, batch_first=True)
    network, x = normalise(ann, images(1), analog=("auto",)), images(5)
    assert_same(ann, network, x)
    assert network.spec() == normalise(ann, x, analog=("auto",)).spec()
    snn = convert(ann, x, 4, analog="auto")
    assert measure_mismatch(ann, snn, x[:1]).timesteps == 4
    report = conversion_report(ann, x, analog="auto")
    assert conversion_report(ann.to("meta"), x.to("meta"), analog="auto") == report


@pytest.mark.parametrize("method", ["topk", "sort", "max"])
def test_results_with_names_may_be_a_tail(method: str) -> None:
    args = (2, 1) if method == "topk" else (1,)
    ann = net(lambda s, x: getattr(s.conv(x).relu().mean((2, 3)), method)(*args).values * 2)
    network = normalise(ann, images(5))
    assert operators(network) == [method]
    assert_same(ann, network, images(5))


def test_the_results_of_an_obstacle_hide_none() -> None:
    ann = net(lambda s, x: F.relu(torch.tanh(s.conv(x).topk(2, 1).values) + several(x)["gate"].exp()))
    with pytest.raises(ConversionError) as caught:
        normalise(ann, images())
    assert [obstacle.operator for obstacle in caught.value.obstacles] == ["topk", "tanh", "several", "exp"]


@pytest.mark.parametrize("analog", [("auto",), ("sigmoid", "double")])
def test_analog_numbers_may_be_cast(analog: tuple[str, ...]) -> None:
    """A cast of other numbers, and one to the type that they have, is no operator."""

    def body(s: Any, x: Tensor) -> Tensor:
        gate = torch.sigmoid(F.relu(s.conv(x.float())).float().double()).float().float()
        return (y := s.second(gate)) * (y > 0).float()

    network = normalise(net(body), images(5), analog=analog)
    assert operators(network) == ["double", "sigmoid", "float"]
    assert_same(net(body), network, images(5))
    plain = normalise(net(lambda s, x: F.relu(s.conv(x)).float()).double(), images(5).double())
    assert operators(plain) == []
