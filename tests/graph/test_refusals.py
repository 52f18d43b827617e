"""What can't be converted is refused, with the operator, its place and what to do."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import conversion_report
from snn_lightning.errors import ConversionError, SettingsError
from snn_lightning.graph import normalise
from snn_lightning.graph.capture.choice import Choice
from snn_lightning.graph.capture.lowering import Lowering
from snn_lightning.graph.capture.trace import trace

from ..toys import MaxPooled, PlainConv, Residual, Vector, inputs, toy
from .nets import images, net

SMOOTH = "train with ReLU or ReLU6"
BATCH = "keep the batch"
LINEAR = r"only a sum over one dimension with one constant \[in, out\]"
RELU = r"write torch.relu\(a - b\) \+ b"
WHERE = r"only torch.where\(x > 0, x, 0\) is a neuron"
COMPARISON = r"comparison of an activation is a neuron only as torch.where\(x > 0, x, 0\) or x \* \(x > 0\)"


def refused(ann: nn.Module) -> pytest.ExceptionInfo[ConversionError]:
    """What a conversion refuses before it looks whether all of it is an analog tail."""
    with pytest.raises(ConversionError) as caught:
        Lowering(trace(ann, Choice()), Choice()).lower(images()[:2])
    return caught


def einsum(equation: str, *shapes: tuple[int, ...]) -> Callable[..., Any]:
    return lambda s, x: torch.einsum(equation, s.conv(x).relu(), *map(torch.ones, shapes))


def out_of_date(s: Any, x: Tensor) -> Tensor:
    x = s.conv(x).relu()
    mask = x > 0
    x += 1
    return torch.where(mask, x, 0)


OPERATORS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "sigmoid": ("sigmoid", SMOOTH, lambda s, x: torch.sigmoid(s.conv(x).relu())),
    "sigmoid method": ("sigmoid", SMOOTH, lambda s, x: s.conv(x).relu().sigmoid()),
    "silu": ("silu", SMOOTH, lambda s, x: F.silu(s.conv(x).relu())),
    "gelu": ("gelu", SMOOTH, lambda s, x: F.gelu(s.conv(x).relu())),
    "tanh": ("tanh", SMOOTH, lambda s, x: torch.tanh(s.conv(x).relu())),
    "elu": ("elu", SMOOTH, lambda s, x: F.elu(s.conv(x).relu(), 0.1)),
    "layer norm": ("layer_norm", "use batch norm", lambda s, x: F.layer_norm(s.conv(x).relu(), [6, 6])),
    "softmax": ("softmax", "apply it to the SNN's output", lambda s, x: F.softmax(s.conv(x).relu(), 1)),
    "product": ("mul", "product of two activations", lambda s, x: s.conv(x).relu() * s.second(s.conv(x))),
    "matmul": ("matmul", "product of two", lambda s, x: s.conv(x).relu() @ s.conv(x)),
    "quotient": ("truediv", "fixed scale", lambda s, x: 1 / (1 + s.conv(x).relu())),
    "unknown": ("cumsum", "replace it by supported operators", lambda s, x: s.conv(x).relu().cumsum(1)),
    "hardtanh": ("hardtanh", r"only \[0, a\] with a > 0", lambda s, x: F.hardtanh(s.conv(x).relu())),
    "clamp": ("clamp", r"only clamp\(min=0\)", lambda s, x: s.conv(x).relu().clamp(min=1.0)),
    "clamp max": ("clamp", r"only clamp\(min=0\)", lambda s, x: s.conv(x).relu().clamp(max=1.0)),
    "batch mean": ("mean", BATCH, lambda s, x: s.conv(x).relu() - s.conv(x).mean(0)),
    "all mean": ("mean", BATCH, lambda s, x: s.conv(x).relu() - s.conv(x).mean()),
    "batch cat": ("cat", "along the batch", lambda s, x: torch.cat([s.conv(x).relu(), s.conv(x)])),
    "batch slice": ("getitem", "behind the batch", lambda s, x: s.conv(x).relu()[:1]),
    "mask": ("getitem", "slices and numbers", lambda s, x: s.conv(x).relu()[:, torch.tensor([0, 2])]),
    "batch chunk": ("chunk", BATCH, lambda s, x: s.conv(x).relu().chunk(2)[0]),
    "batch merge": ("flatten", BATCH, lambda s, x: s.conv(x).relu().flatten()),
    "batch view": ("view", BATCH, lambda s, x: s.conv(x).relu().view(-1, 6)),
    "batch transpose": ("transpose", BATCH, lambda s, x: s.conv(x).relu().transpose(0, 1)),
    "a constant an image": (
        "add",
        "leave out its batch dimension",
        lambda s, x: s.conv(x).relu() + torch.rand(2, 1, 1, 1),
    ),
    "constant cat": (
        "cat",
        "as a bias",
        lambda s, x: torch.cat([s.conv(x).relu(), torch.ones(2, 1, 6, 6)], 1),
    ),
    "weight of an input": ("conv2d", "product", lambda s, x: F.conv2d(s.conv(x).relu(), s.conv(x))),
    "dropout": ("dropout", "training=self.training", lambda s, x: F.dropout(s.conv(x).relu())),
    "batch pad": ("pad", BATCH, lambda s, x: F.pad(s.conv(x).relu(), (0, 0, 0, 0, 0, 0, 0, 1))),
    "batch sum": ("sum", BATCH, lambda s, x: s.conv(x).relu() - s.conv(x).sum((0, 2), keepdim=True)),
    "batch stack": ("stack", "before the batch", lambda s, x: torch.stack([s.conv(x).relu(), s.conv(x)])),
    "mean over all of a stack": (
        "mean",
        "before the batch",
        lambda s, x: torch.stack([s.conv(x).relu(), s.conv(x)]).mean((0, 1)),
    ),
    "constant stack": (
        "stack",
        "class token",
        lambda s, x: torch.stack([s.conv(x).relu(), torch.ones(2, 4, 6, 6)], 1),
    ),
    "inner softmax": (
        "softmax",
        "divides activations by one another",
        lambda s, x: s.second(F.softmax(s.conv(x).relu(), 1)),
    ),
    "einsum": (
        "einsum",
        "product of two",
        lambda s, x: torch.einsum("nchw,nchw->nch", s.conv(x).relu(), s.conv(x)),
    ),
    "einsum with two constants": ("einsum", LINEAR, einsum("nchw,cd,de->nehw", (4, 2), (2, 3))),
    "einsum of two sums": ("einsum", LINEAR, einsum("nchw,hwo->nco", (6, 6, 2))),
    "einsum with a scale": ("einsum", LINEAR, einsum("nchw,c->nchw", (4,))),
    "einsum with a sum of the constant": ("einsum", LINEAR, einsum("nchw,ce->nhw", (4, 2))),
    "einsum of nothing new": ("einsum", LINEAR, einsum("nchw,ch->nhw", (4, 6))),
    "einsum of equal dimensions": ("einsum", LINEAR, einsum("nchh,co->noh", (4, 2))),
    "einsum that moves the batch": ("einsum", LINEAR, einsum("nchw,co->onhw", (4, 2))),
    "einsum over the batch": ("einsum", LINEAR, einsum("nchw,no->ochw", (2, 3))),
    "einsum that repeats": ("einsum", LINEAR, einsum("nchw,co->nohw", (1, 2))),
    "einsum without a result": ("einsum", LINEAR, einsum("nchw,co", (4, 2))),
    "einsum without a constant": ("einsum", LINEAR, einsum("nchw->nhwc")),
    "threshold": ("threshold", "which is ReLU", lambda s, x: torch.threshold(s.conv(x).relu(), 0.5, 0)),
    "threshold value": (
        "threshold",
        "it puts 20 where",
        lambda s, x: torch.threshold(s.conv(x).relu(), 0, 20),
    ),
    "maximum": ("maximum", RELU, lambda s, x: torch.maximum(s.conv(x).relu(), s.constant)),
    "maximum of two": ("max", RELU, lambda s, x: torch.max(s.conv(x).relu(), s.conv(x))),
    "maximum that enlarges": (
        "maximum",
        r"enlarges the activation from \(4, 1, 1\) to \(4, 2, 3\)",
        lambda s, x: s.conv(x).relu().mean((2, 3), keepdim=True).maximum(torch.zeros(2, 3)),
    ),
    "maximum over a dimension": ("max", "use max pooling", lambda s, x: s.conv(x).relu().max(1)[0]),
    "where with another slope": ("where", WHERE, lambda s, x: torch.where((y := s.conv(x)) > 0, y, y.relu())),
    "where the other way round": (
        "where",
        WHERE,
        lambda s, x: torch.where((y := s.conv(x).relu()) > 0, 0, y),
    ),
    "where another is positive": ("where", WHERE, lambda s, x: torch.where(x > 0, s.relu(x), 0)),
    "where a constant is": (
        "where",
        "product with a constant mask",
        lambda s, x: torch.where(s.constant > 0, s.conv(x).relu(), 0),
    ),
    "a mask that is out of date": ("where", WHERE, out_of_date),
    "comparison with another number": ("gt", COMPARISON, lambda s, x: s.conv(x).relu() > 1),
    "comparison of two": ("ge", COMPARISON, lambda s, x: s.conv(x).relu() >= s.conv(x)),
    "comparison as a number": ("add", COMPARISON, lambda s, x: s.conv(x).relu() + (s.conv(x) > 0)),
    "comparison as a factor": ("mul", COMPARISON, lambda s, x: s.conv(x).relu() * (s.conv(x) > 0)),
    "comparison of a comparison": ("gt", COMPARISON, lambda s, x: (s.conv(x).relu() > 0) > 0),
    "comparison counted": ("sum", COMPARISON, lambda s, x: (s.conv(x).relu() > 0).sum((1, 2))),
    "bmm": (
        "bmm",
        "product of two",
        lambda s, x: torch.bmm(s.conv(x).relu().flatten(2), s.conv(x).flatten(2).transpose(1, 2)),
    ),
    "matmul from the left": ("matmul", r"only x @ W", lambda s, x: torch.ones(6, 6) @ s.conv(x).relu()),
    "attention": (
        "scaled_dot_product_attention",
        "attention multiplies activations",
        lambda s, x: F.scaled_dot_product_attention(s.conv(x).relu(), s.conv(x), s.conv(x)),
    ),
    "an unknown form": ("mean", "not supported", lambda s, x: s.conv(x).relu().mean(1, dtype=torch.float64)),
}


@pytest.mark.parametrize("case", OPERATORS)
def test_an_operator_is_refused_by_name_place_and_remedy(case: str) -> None:
    operator, remedy, body = OPERATORS[case]
    caught = refused(net(body))
    caught.match(remedy)
    (obstacle,) = caught.value.obstacles
    assert obstacle.operator == operator
    assert obstacle.path == ""
    assert "test_refusals.py" in obstacle.line
    assert f"{operator} in the top module" in str(caught.value)


def test_a_comparison_is_no_output() -> None:
    with pytest.raises(ConversionError, match="returns a comparison of an activation; return the activation"):
        normalise(net(lambda s, x: (F.relu(s.conv(x)), s.conv(x) > 0)), images())


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.gate = nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return F.softmax(x * self.gate(x), 1)


def test_all_obstacles_are_listed_at_once_with_their_modules() -> None:
    ann = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Block(), nn.GELU()), nn.ELU()).eval()
    with pytest.raises(ConversionError) as caught:
        normalise(ann, images())
    found = [(o.operator, o.path) for o in caught.value.obstacles]
    assert found == [
        ("GroupNorm", "1.0.norm"),
        ("Sigmoid", "1.0.gate"),
        ("mul", "1.0"),
        ("softmax", "1.0"),
        ("GELU", "1.1"),
        ("ELU", "2"),
    ]
    message = str(caught.value)
    assert all(f"  {i}. {o}" in message for i, o in enumerate(caught.value.obstacles, 1))
    assert "return F.softmax(x * self.gate(x), 1)" in message


def test_an_obstacle_met_twice_is_listed_once_a_place() -> None:
    gate = nn.Sigmoid()
    ann = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), gate, gate)
    assert [o.path for o in refused(ann).value.obstacles] == ["2"]


def test_an_obstacle_with_several_results_hides_none() -> None:
    ann = net(lambda s, x: torch.sigmoid(torch.topk(s.conv(x).relu(), 2, 1)[0]))
    assert [o.operator for o in refused(ann).value.obstacles] == ["topk", "sigmoid"]


def test_a_number_taken_from_a_tensor_is_refused() -> None:
    caught = refused(net(lambda s, x: s.conv(x).relu() * x.mean().item()))
    caught.match(r"item in the top module .*replace it by supported operators")


def control_flow(s: Any, x: Tensor) -> Tensor:
    x = s.conv(x).relu()
    return x if x.sum() > 0 else -x


def test_control_flow_names_the_source_line() -> None:
    with pytest.raises(ConversionError, match=r"(?s)can't be traced at .*test_refusals.py.*fixed structure"):
        normalise(net(control_flow), images())


def test_control_flow_names_the_module() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.mean() > 0) else -x

    with pytest.raises(ConversionError, match=r"forward code of module '1.0'"):
        normalise(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Branch())), images())


class Pair(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return F.relu(x) + mask


def test_a_second_input_is_named() -> None:
    with pytest.raises(
        ConversionError, match=r"second input 'mask'.*wrap the model in a module with one input"
    ):
        normalise(Pair(), images())


@pytest.mark.parametrize("sample", [{"x": torch.ones(2, 3)}, [torch.ones(2, 3)], None])
def test_inputs_that_are_no_tensor_are_named(sample: Any) -> None:
    message = f"must be one tensor .*got {type(sample).__name__}.*Wrap the model"
    with pytest.raises(ConversionError, match=message):
        normalise(toy(Vector), sample)


@pytest.mark.parametrize("shape", [(0, 10), (10,), ()])
def test_an_empty_batch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConversionError, match=r"must be a batch of inputs \[N, ...\], got shape"):
        normalise(toy(Vector), torch.ones(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    x = inputs(PlainConv, 2)
    x[1, 0, 0, 0] = value
    with pytest.raises(ConversionError, match="sample has NaN or infinite values; clean the inputs"):
        normalise(toy(PlainConv), x)
    ann = toy(PlainConv)
    with torch.no_grad():
        ann.features[4].weight[0, 0, 0, 0] = value
    with pytest.raises(ConversionError, match=r"'features.4.weight' has NaN or infinite values.*diverged"):
        normalise(ann, inputs(PlainConv, 2))


def test_an_ann_elsewhere_is_refused() -> None:
    with pytest.raises(
        ConversionError, match=r"'0.weight' is on meta and the sample on cpu; move one of them"
    ):
        normalise(nn.Sequential(nn.Linear(3, 3, device="meta"), nn.ReLU()), torch.ones(2, 3))


def test_inputs_of_another_form_are_refused_with_the_place() -> None:
    with pytest.raises(ConversionError, match=r"fails on inputs of shape \(2, 10\) in module 'stem'"):
        normalise(toy(Residual), torch.ones(2, 10))


def test_a_network_without_activation_is_refused() -> None:
    with pytest.raises(
        ConversionError, match=r"has no activation .*Pass the part of the model that has them"
    ):
        normalise(nn.Sequential(nn.Linear(3, 3), nn.Dropout()), torch.ones(2, 3))


def test_batch_norm_without_statistics_is_refused() -> None:
    ann = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU())
    with pytest.raises(ConversionError, match=r"no running statistics.*track_running_stats=True"):
        normalise(ann, images())


def test_a_max_pool_with_indices_is_refused() -> None:
    class Indices(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.pool(F.relu(x))[0])

    with pytest.raises(ConversionError, match="set return_indices=False"):
        normalise(Indices(), images())


class Stateful(nn.Module):
    """Returns something else at each call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return F.relu(x) + self.calls


@pytest.mark.parametrize(
    "body",
    [
        lambda s, x: F.relu(s.conv(x)) * torch.rand(1),
        lambda s, x: F.relu(s.conv(x)) * x.shape[0],
    ],
    ids=["random", "batch size"],
)
def test_a_result_that_is_no_function_of_the_input_is_refused(body: Callable[..., Any]) -> None:
    with pytest.raises(ConversionError, match=r"does not reproduce the ANN: relative error .* at its output"):
        normalise(net(body), images(5))
    with pytest.raises(ConversionError, match="pure function of the input"):
        normalise(Stateful(), images(5))


def test_the_flags_are_restored_after_a_refusal_too() -> None:
    ann = net(lambda s, x: F.relu(s.conv(x)) * x.shape[0]).train()
    with pytest.raises(ConversionError):
        normalise(ann, images(5))
    assert all(module.training for module in ann.modules())


def test_an_unknown_max_pooling_is_named() -> None:
    with pytest.raises(SettingsError, match="max_pooling must be one of gated, average, keep, got 'sum'"):
        conversion_report(toy(MaxPooled), inputs(MaxPooled, 2), max_pooling="sum")


class OneNumberAnImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x).mean(1))


def test_a_site_without_channels_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"relu in the top module .*needs a channel dimension"):
        normalise(OneNumberAnImage(), torch.randn(3, 4))


def test_a_call_that_no_code_of_the_users_makes_has_no_line() -> None:
    with pytest.raises(ConversionError) as caught:
        normalise(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid()), images())
    (obstacle,) = caught.value.obstacles
    assert (obstacle.path, obstacle.line) == ("1", "")
    assert str(obstacle).startswith("Sigmoid in module '1': ")


class Output(dict):
    """A dict with attributes, which a spiking network could not give back."""


def test_an_output_of_a_class_of_its_own():
    class Returning(PlainConv):
        def forward(self, x):
            return Output(logits=super().forward(x))

    with pytest.raises(
        ConversionError, match=r"The network returns a Output at its output, .* return a plain d"
    ):
        normalise(toy(Returning), inputs(PlainConv))


def test_layers_that_are_not_registered():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Conv2d(3, 4, 3), nn.ReLU()]

        def forward(self, x):
            return self.layers[1](self.layers[0](x))

    with pytest.raises(ConversionError, match=r"Register every layer in __init__: lists of layers as nn\."):
        normalise(Loose(), torch.rand(2, 3, 8, 8))


def test_a_network_that_can_not_be_copied():
    network = toy(PlainConv)
    network.lock = threading.Lock()
    with pytest.raises(ConversionError, match=r"PlainConv can't be copied .*Keep locks, files, generators"):
        normalise(network, inputs(PlainConv))
