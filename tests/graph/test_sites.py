"""What counts as a site, and that every supported form of writing a network computes the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning.graph import StageNetwork, normalise
from snn_lightning.graph.ir import ACTIVATION
from snn_lightning.graph.operators import OPERATORS, PositionwiseLinear

from ..toys import INPUT_SHAPES, SITES, TOYS, inputs, toy
from .nets import images, net


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / expected.norm()).item()


def assert_equal(ann: nn.Module, network: StageNetwork, x: Tensor) -> None:
    """Compare on inputs that the conversion has not seen, of another batch size."""
    with torch.no_grad():
        expected, got = ann(x.clone()), network(x.clone())
    if isinstance(expected, Tensor):
        assert relative_error(got, expected) < 1e-5
    else:
        assert type(got) is type(expected)
        pairs = zip(expected.values(), got.values(), strict=True) if isinstance(expected, dict) else ()
        for a, b in pairs or zip(expected, got, strict=True):
            assert relative_error(b, a) < 1e-5


@pytest.mark.parametrize("cls", TOYS)
def test_toys_normalise_with_a_site_for_each_activation_call(cls: type[nn.Module]) -> None:
    ann = toy(cls)
    network = normalise(ann, inputs(cls, 3))
    assert len(network.sites) == SITES[cls]
    assert_equal(ann, network, inputs(cls, 5, seed=1))
    assert set(INPUT_SHAPES) == set(SITES)


def clamp_in_place(s: Any, x: Tensor) -> Tensor:
    x = s.conv(x)
    x.clamp_(0, 6)
    return s.second(x)


def relu_in_place(s: Any, x: Tensor) -> Tensor:
    x = torch.relu_(s.conv(x))
    return x + s.second(x)


def relu_in_place_is_seen_by_other_names(s: Any, x: Tensor) -> Tensor:
    x = s.conv(x)
    y = x
    F.relu(y, inplace=True)
    return s.second(x) + y


def a_clone_is_not_changed_in_place(s: Any, x: Tensor) -> Tensor:
    x = s.conv(x)
    y = x.clone()
    y.relu_()
    return s.second(y) + x


def product_with_a_mask_in_place(s: Any, x: Tensor) -> Tensor:
    x = s.conv(x)
    x *= (x > 0).float()
    return s.second(x)


def where_zero_is_below(x: Tensor) -> Tensor:
    return torch.where(0 < x, x, ZEROS)  # noqa: SIM300


ZEROS = torch.zeros(4, 1, 1)

ACTIVATIONS: dict[str, tuple[int, float | None, Callable[..., Any]]] = {
    "F.relu": (1, None, lambda s, x: s.second(F.relu(s.conv(x)))),
    "torch.relu": (1, None, lambda s, x: s.second(torch.relu(s.conv(x)))),
    "method": (1, None, lambda s, x: s.second(s.conv(x).relu())),
    "method in place": (1, None, lambda s, x: s.second(s.conv(x).relu_())),
    "F.relu in place": (1, None, lambda s, x: s.second(F.relu(s.conv(x), inplace=True))),
    "relu_ then a sum": (1, None, relu_in_place),
    "seen by other names": (1, None, relu_in_place_is_seen_by_other_names),
    "clone": (1, None, a_clone_is_not_changed_in_place),
    "module": (1, None, lambda s, x: s.second(s.relu(s.conv(x)))),
    "module twice": (2, None, lambda s, x: s.relu(s.second(s.relu(s.conv(x))))),
    "on the input": (2, None, lambda s, x: F.relu(s.conv(F.relu(x)))),
    "on the input, in place": (1, None, lambda s, x: s.conv(F.relu_(x))),
    "module ReLU6": (1, 6.0, lambda s, x: s.second(s.relu6(s.conv(x)))),
    "F.relu6": (1, 6.0, lambda s, x: s.second(F.relu6(s.conv(x)))),
    "F.hardtanh": (1, 2.5, lambda s, x: s.second(F.hardtanh(s.conv(x), 0.0, 2.5))),
    "F.hardtanh_": (1, 2.0, lambda s, x: s.second(F.hardtanh_(s.conv(x), 0.0, 2.0))),
    "clamp": (1, 3.0, lambda s, x: s.second(s.conv(x).clamp(0, 3))),
    "torch.clamp": (1, 3.0, lambda s, x: s.second(torch.clamp(s.conv(x), min=0.0, max=3.0))),
    "clamp_": (1, 6.0, clamp_in_place),
    "clamp min alone": (1, None, lambda s, x: s.second(s.conv(x).clamp(min=0))),
    "clamp_min": (1, None, lambda s, x: s.second(s.conv(x).clamp_min(0))),
    "clip": (1, 4.0, lambda s, x: s.second(torch.clip(s.conv(x), 0, 4))),
    "F.threshold": (1, None, lambda s, x: s.second(F.threshold(s.conv(x), 0, 0))),
    "F.threshold in place": (1, None, lambda s, x: s.second(F.threshold(s.conv(x), 0.0, 0.0, True))),
    "F.threshold_": (1, None, lambda s, x: s.conv(F.threshold_(x, 0, 0))),
    "torch.threshold": (1, None, lambda s, x: s.second(torch.threshold(s.conv(x), 0, 0))),
    "torch.maximum": (1, None, lambda s, x: s.second(torch.maximum(s.conv(x), ZEROS))),
    "maximum, zeros first": (1, None, lambda s, x: s.second(torch.maximum(torch.zeros(()), s.conv(x)))),
    "torch.max": (1, None, lambda s, x: s.second(torch.max(s.conv(x), torch.zeros(1)))),
    "max of zeros": (1, None, lambda s, x: s.second(torch.zeros(6).max(s.conv(x)))),
    "max method": (1, None, lambda s, x: s.second(s.conv(x).max(x.new_zeros(1)))),
    "maximum method": (1, None, lambda s, x: s.second(s.conv(x).maximum(torch.zeros_like(s.conv(x))))),
    "where": (1, None, lambda s, x: s.second(torch.where((y := s.conv(x)) > 0, y, 0))),
    "where not below": (1, None, lambda s, x: s.second(torch.where((y := s.conv(x)) >= 0.0, y, 0.0))),
    "where zero is below": (1, None, lambda s, x: s.second(where_zero_is_below(s.conv(x)))),
    "where, torch.gt": (
        1,
        None,
        lambda s, x: s.second(torch.where(torch.gt(y := s.conv(x), ZEROS), y, torch.zeros_like(y))),
    ),
    "where method": (1, None, lambda s, x: s.second((y := s.conv(x)).where(y.ge(0), torch.zeros(())))),
    "product with a mask": (1, None, lambda s, x: s.second((y := s.conv(x)) * (y > 0))),
    "mask times": (1, None, lambda s, x: s.second(((y := s.conv(x)) > 0) * y)),
    "product with a mask in place": (1, None, product_with_a_mask_in_place),
}


@pytest.mark.parametrize("form", ACTIVATIONS)
def test_every_form_of_activation_is_a_site(form: str) -> None:
    sites, cap, body = ACTIVATIONS[form]
    ann, x = net(body), images()
    before = x.clone()
    network = normalise(ann, x)
    assert torch.equal(x, before)
    assert len(network.sites) == sites
    assert {network.nodes[site].settings["cap"] for site in network.sites} == {cap}
    assert_equal(ann, network, images(5))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_threshold_module_at_zero_is_a_site(inplace: bool) -> None:
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Threshold(0, 0, inplace), nn.Conv2d(4, 2, 3)).eval()
    network = normalise(ann, images())
    assert [node.op for node in network.nodes.values()] == ["Conv2d", ACTIVATION, "Conv2d"]
    assert_equal(ann, network, images(5))


def chunks(s: Any, x: Tensor) -> Tensor:
    a, b = torch.chunk(F.relu(s.conv(x)), chunks=2, dim=1)
    return torch.cat([b, a - b], 1)


def splits(s: Any, x: Tensor) -> Tensor:
    a, b, c = F.relu(s.conv(x)).split([1, 2, 1], dim=1)
    return torch.cat((c, b, a), dim=1)


def shuffle(s: Any, x: Tensor) -> Tensor:
    x = F.relu(s.conv(x))
    n, c, h, w = x.size()
    return s.second(torch.transpose(x.view(n, 2, c // 2, h, w), 1, 2).contiguous().view(n, c, h, w))


def sums(s: Any, x: Tensor) -> Tensor:
    h = F.relu(s.conv(x))
    y = h + h
    y += s.second(h)
    y = torch.add(y, h, alpha=0.5)
    return 1 - y.sub(h, alpha=2)


def scales(s: Any, x: Tensor) -> Tensor:
    x = (x - 0.5) / 2.0
    y = F.relu(-s.conv(x) * s.constant + s.constant)
    y.mul_(3.0)
    y.div_(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1))
    return s.second(0.25 * y)


FORMS: dict[str, Callable[..., Any]] = {
    "torch.flatten": lambda s, x: s.linear(torch.flatten(F.adaptive_avg_pool2d(s.conv(x).relu(), 1), 1)),
    "flatten method": lambda s, x: s.conv(x).relu().flatten(1),
    "reshape with the batch": lambda s, x: s.linear(s.conv(x).relu().mean((2, 3)).reshape(x.shape[0], -1)),
    "view with size": lambda s, x: F.relu(s.conv(x)).view(x.size(0), -1),
    "mean": lambda s, x: s.linear(s.conv(x).relu().mean([2, 3])),
    "mean twice": lambda s, x: s.linear(s.conv(x).relu().mean(-1).mean(-1)),
    "mean with keepdim": lambda s, x: F.relu(s.conv(x)).mean((2, 3), keepdim=True) + s.conv(x),
    "squeeze": lambda s, x: F.avg_pool2d(F.relu(s.conv(x)), 6).squeeze(-1).squeeze(-1),
    "chunk": chunks,
    "split": splits,
    "channel shuffle": shuffle,
    "slices": lambda s, x: torch.cat([F.relu(s.conv(x))[:, 2:], s.conv(x).relu()[:, :2, 0:6] * 2], 1),
    "slice scaled a channel": lambda s, x: F.relu(s.conv(x))[:, 1:3] * torch.tensor([2.0, 3.0]).view(2, 1, 1),
    "a number behind the batch": lambda s, x: F.relu(s.conv(x))[:, -1],
    "cat": lambda s, x: torch.cat([x, F.relu(s.conv(x))], dim=1),
    "permute": lambda s, x: s.linear(F.relu(s.conv(x)).permute(0, 2, 3, 1)),
    "transpose": lambda s, x: F.relu(s.conv(x)).transpose(1, -1),
    "sums": sums,
    "scales": scales,
    "F.conv2d": lambda s, x: F.conv2d(
        F.relu(s.conv(x)), s.second.weight, s.second.bias, stride=2, padding=(1, 0)
    ),
    "grouped F.conv2d": lambda s, x: F.conv2d(F.relu(s.conv(x)), s.second.weight[:, :1], None, 1, 1, 1, 4),
    "F.linear": lambda s, x: F.linear(F.relu(s.conv(x)).mean((2, 3)), s.linear.weight),
    "F.batch_norm": lambda s, x: F.batch_norm(
        F.relu(s.conv(x)), s.norm.running_mean, s.norm.running_var, s.norm.weight, s.norm.bias
    ),
    "F.max_pool2d": lambda s, x: F.max_pool2d(F.relu(s.conv(x)), 3, stride=2, padding=1, ceil_mode=True),
    "F.avg_pool2d": lambda s, x: F.avg_pool2d(F.relu(s.conv(x)), 3, 2, 1, count_include_pad=False),
    "F.adaptive_max_pool2d": lambda s, x: F.adaptive_max_pool2d(F.relu(s.conv(x)), (2, 3)),
    "F.interpolate": lambda s, x: F.interpolate(F.relu(s.conv(x)), scale_factor=2, mode="bilinear"),
    "F.interpolate to a size": lambda s, x: F.interpolate(F.relu(s.conv(x)), x.shape[-2:]),
    "F.max_pool2d of one value": lambda s, x: F.max_pool2d(F.relu(s.conv(x)), 1, 2, ceil_mode=True),
    "F.pad": lambda s, x: F.pad(F.relu(s.conv(x)), (1, 2, 0, 1), value=0.5),
    "F.dropout": lambda s, x: F.dropout(F.relu(s.conv(x)), 0.5, s.training),
    "tuple": lambda s, x: (F.relu(s.conv(x)), s.conv(x)),
    "dict": lambda s, x: {"features": F.relu(s.conv(x)), "input": x},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_operator_computes_the_same(form: str) -> None:
    ann = net(FORMS[form])
    network = normalise(ann, images())
    assert len(network.sites) >= 1
    assert {node.op for node in network.nodes.values()} <= set(OPERATORS)
    assert_equal(ann, network, images(5))


@torch.no_grad()
def test_upsampling_adapts_to_a_size_that_is_computed_and_not_to_a_constant() -> None:
    def up(size: Callable[[torch.Tensor], Any]) -> tuple[nn.Module, nn.Module]:
        ann = net(lambda s, x: F.interpolate(F.max_pool2d(F.relu(s.conv(x)), 2), size(x)))
        return ann, normalise(ann, torch.rand(2, 3, 8, 8))

    x = torch.rand(2, 3, 12, 16)
    for size in (lambda x: x.shape[-2:], lambda x: (x.shape[2], x.size(3)), lambda x: (8, 8)):
        ann, network = up(size)
        torch.testing.assert_close(network(x), ann(x))


def test_nested_outputs_keep_their_structure() -> None:
    ann = net(lambda s, x: {"a": (F.relu(s.conv(x)), [x, None]), "b": {"c": s.conv(x)}})
    got = normalise(ann, images())(images(2))
    assert list(got) == ["a", "b"]
    assert isinstance(got["a"], tuple)
    assert isinstance(got["a"][1], list)
    assert got["a"][1][1] is None
    assert torch.equal(got["a"][1][0], images(2))
    assert torch.allclose(got["b"]["c"], ann(images(2))["b"]["c"], atol=1e-5)


def test_dropout_of_every_kind_vanishes() -> None:
    kinds = (nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *(cls() for cls in kinds), nn.Conv2d(4, 2, 3)).eval()
    assert [node.op for node in normalise(ann, images()).nodes.values()] == ["Conv2d", ACTIVATION, "Conv2d"]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, scale: float = 2.0, extra: Tensor | None = None) -> Tensor:
        x = F.relu(self.linear(x)) * scale
        return x if extra is None else x + extra


def test_a_second_input_takes_its_default() -> None:
    ann, x = TwoInputs(), torch.randn(3, 4)
    assert torch.allclose(normalise(ann, x)(x), ann(x), atol=1e-6)


class Subclass(nn.Conv2d):
    """A convolution of a class that is not torch's."""


def test_subclasses_and_parametrisations_become_plain_operators() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    ann = nn.Sequential(Subclass(3, 4, 3), nn.ReLU(), normed, nn.BatchNorm2d(4), nn.ReLU()).eval()
    network = normalise(ann, images())
    assert [type(operator) for operator in network.operators.values()][::2] == [nn.Conv2d, nn.Conv2d]
    rebuilt = StageNetwork.from_spec(network.spec())
    rebuilt.load_state_dict(network.state_dict())
    assert_equal(ann, rebuilt.eval(), images(4))


class Named(nn.Module):
    """Modules with names that module dictionaries have for themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.update, self.values, self.keys = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.keys(self.values(self.update(x)))


def test_modules_may_have_any_name() -> None:
    ann, x = Named(), torch.randn(3, 4)
    assert torch.allclose(normalise(ann, x)(x), ann(x), atol=1e-6)


def test_a_linear_layer_on_positions_has_no_channels_to_fold_into() -> None:
    # The batch norm's channels are the 5 positions, as many as the layer has features.
    ann = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).eval()
    ann[1].running_mean.copy_(torch.arange(5.0))
    ann[1].running_var.copy_(torch.arange(5.0) + 0.5)
    x = torch.randn(6, 5, 4)
    network = normalise(ann, x)
    assert [n.op for n in network.nodes.values()] == [
        "PositionwiseLinear",
        "Affine",
        ACTIVATION,
        "PositionwiseLinear",
    ]
    assert isinstance(next(iter(network.operators.values())), PositionwiseLinear)
    assert_equal(ann, network, x)


def test_nothing_else_is_disturbed() -> None:
    """The model, its flags, its weights and the random generator are as they were."""
    ann, x = toy(TOYS[1]).train(), inputs(TOYS[1], 3)
    ann.stem_norm.eval()
    flags = {name: module.training for name, module in ann.named_modules()}
    weights = {name: value.clone() for name, value in ann.state_dict().items()}
    needs = {name: p.requires_grad for name, p in ann.named_parameters()}
    generator = torch.get_rng_state()
    network = normalise(ann, x)
    assert {name: module.training for name, module in ann.named_modules()} == flags
    assert {name: p.requires_grad for name, p in ann.named_parameters()} == needs
    assert all(torch.equal(value, weights[name]) for name, value in ann.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module.training for module in network.modules())
    assert_equal(ann.eval(), network, inputs(TOYS[1], 4))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_batch_size_will_do(count: int) -> None:
    for cls in TOYS:
        assert_equal(toy(cls), normalise(toy(cls), inputs(cls, count)), inputs(cls, 3))
