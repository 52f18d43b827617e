"""Activations with an upper bound: their formulas, their gradients, and their exchange for ReLUs."""

import copy

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import conversion_report
from snn_lightning.errors import ConversionError, SettingsError
from snn_lightning.graph import StageNetwork, normalise
from snn_lightning.graph.capture.bounded import BoundedActivation, plain_activations
from snn_lightning.models import Clipped, QuantizedClip, RateNorm, create_model, replace_activations
from tests.toys import MaxPooled, PlainConv, inputs, toy

X = torch.tensor([-1.0, 0.0, 0.2, 0.3, 0.8, 1.7, 2.0, 9.0])


def gradients(module: nn.Module, parameter: Tensor, x: Tensor) -> tuple[list[float], list[float]]:
    """Gradients by x, and of each output by the parameter."""
    x = x.clone().requires_grad_()
    by_x = torch.autograd.grad(module(x).sum(), x)[0].tolist()
    outputs = module(x)
    return by_x, [torch.autograd.grad(y, parameter, retain_graph=True)[0].item() for y in outputs]


def test_clipped() -> None:
    torch.testing.assert_close(Clipped(1.5)(X), X.clamp(0, 1.5))
    assert not list(Clipped().parameters())


def test_quantised_clip_by_its_formula() -> None:
    # λ / L = 0.5; boundaries at 0.25, 0.75, 1.25 and 1.75.
    assert QuantizedClip(4, cap=2.0)(X).tolist() == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]


def test_gradients_of_the_quantised_clip() -> None:
    module = QuantizedClip(4, cap=2.0)
    by_x, by_cap = gradients(module, module.cap, torch.tensor([-1.0, 0.3, 0.8, 9.0]))
    assert by_x == [0, 1, 1, 0]
    # Inside (h(x) - x) / λ, above 1, below 0 (the paper's eq. 17, as corrected in its arXiv version).
    assert by_cap == pytest.approx([0, (0.5 - 0.3) / 2, (1 - 0.8) / 2, 1])


def test_rate_norm_trains_on_the_batchs_maximum_and_tests_on_its_mean() -> None:
    module = RateNorm(fraction=0.5, momentum=0.25)
    assert module(torch.tensor([1.0, 3.0, 4.0])).tolist() == [1.0, 2.0, 2.0]
    assert module(torch.tensor([1.0, 8.0])).tolist() == [1.0, 4.0]
    # The first maximum, then 4 + 0.25 * (8 - 4).
    assert module.running_max.item() == 5.0
    module.eval()
    assert module.cap.item() == 2.5
    assert module(torch.tensor([-1.0, 1.0, 8.0])).tolist() == [0.0, 1.0, 2.5]
    assert module.running_max.item() == 5.0


def test_the_fraction_of_a_rate_norm_is_trained() -> None:
    module = RateNorm(fraction=0.5)
    by_x, by_fraction = gradients(module, module.fraction, torch.tensor([1.0, 3.0, 4.0]))
    assert by_x == [1, 0, 0]
    assert by_fraction == [0, 4, 4]


def test_a_batch_that_is_never_positive_leaves_a_rate_norm_finite() -> None:
    module = RateNorm()
    assert module(torch.tensor([-1.0, -2.0])).tolist() == [0, 0]
    assert module.running_max.item() > 0


def test_bfloat16_stays_bfloat16() -> None:
    for module in (Clipped(), RateNorm(), QuantizedClip()):
        assert module(X.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["clipped", "rate_norm", "qcfs"])
def test_the_graph_has_a_site_with_the_cap_and_computes_the_clipped_form(name: str) -> None:
    ann, x = replace_activations(toy(PlainConv), name), inputs(PlainConv, 6)
    modules = [m for m in ann.modules() if isinstance(m, BoundedActivation)]
    for number, module in enumerate(modules, 1):
        with torch.no_grad():
            (module.running_max if name == "rate_norm" else module.cap).fill_(0.4 * number)
    ann.eval()
    network = normalise(ann, x)
    caps = [network.nodes[site].settings["cap"] for site in network.sites]
    assert caps == pytest.approx([0.4, 0.8])
    with torch.no_grad(), plain_activations(ann):
        expected = ann(x)
    torch.testing.assert_close(network(x), expected)
    assert not any(module.plain for module in modules)
    rebuilt = StageNetwork.from_spec(network.spec())
    assert [rebuilt.nodes[site].settings["cap"] for site in rebuilt.sites] == caps


def test_the_report_shows_caps() -> None:
    ann = replace_activations(toy(PlainConv), {"name": "clipped", "cap": 1.25})
    report = conversion_report(ann, inputs(PlainConv))
    assert set(report.caps.values()) == {1.25}
    rows = [line.split() for line in str(report).splitlines()]
    assert [row[4] for row in rows if row[1:2] == ["neuron"]] == ["1.25", "1.25"]
    assert "cap" not in str(conversion_report(toy(PlainConv), inputs(PlainConv)))


def test_the_form_is_reported_on_the_meta_device() -> None:
    ann = replace_activations(toy(PlainConv), "qcfs").to("meta")
    assert conversion_report(ann, inputs(PlainConv).to("meta")).sites == 2


@pytest.mark.parametrize("cap", [0.0, -0.5])
def test_a_bound_that_training_has_lost_is_an_obstacle(cap: float) -> None:
    ann = replace_activations(toy(PlainConv), "qcfs").eval()
    nn.init.constant_(ann.features[2].cap, cap)
    with pytest.raises(
        ConversionError, match=r"QuantizedClip in module 'features\.2'.*its cap is .* positive"
    ):
        normalise(ann, inputs(PlainConv))


def test_a_subclass_with_a_forward_of_its_own_is_refused() -> None:
    class Other(Clipped):
        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(0, 3)

    ann = toy(PlainConv)
    ann.features[2] = Other()
    with pytest.raises(ConversionError, match=r"Other in module 'features\.2'"):
        normalise(ann, inputs(PlainConv))


def test_a_users_own_activation_needs_no_rule() -> None:
    class Stairs(BoundedActivation):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cap", torch.tensor(3.0))

        def activate(self, x: Tensor) -> Tensor:
            return x.clamp(0, 3).round()

    ann = toy(PlainConv)
    ann.features[2] = Stairs()
    network = normalise(ann, inputs(PlainConv))
    assert [network.nodes[site].settings["cap"] for site in network.sites] == [3.0, None]


def test_each_relu_module_gets_an_activation_of_its_own_and_a_shared_one_stays_shared() -> None:
    shared = nn.ReLU()
    net = nn.Sequential(nn.Linear(2, 2), shared, nn.Sequential(nn.ReLU(), nn.ReLU6()), shared)
    assert replace_activations(net, {"name": "qcfs", "levels": 3}) is net
    assert isinstance(net[1], QuantizedClip)
    assert net[1].levels == 3
    assert net[3] is net[1]
    assert isinstance(net[2][0], QuantizedClip)
    assert net[2][0] is not net[1]
    assert isinstance(net[2][1], nn.ReLU6)


def test_relu_leaves_a_network_alone() -> None:
    net = toy(PlainConv)
    assert repr(replace_activations(copy.deepcopy(net), "relu")) == repr(net)


@pytest.mark.parametrize("source", ["snn_lightning", "torchvision"])
def test_models_are_built_with_an_activation(source: str) -> None:
    name = {"snn_lightning": "vgg16_bn", "torchvision": "vgg11"}[source]
    net = create_model(name, num_classes=4, source=source, activation={"name": "clipped", "cap": 2.0})
    assert not any(isinstance(m, nn.ReLU) for m in net.modules())
    assert {m.cap.item() for m in net.modules() if isinstance(m, Clipped)} == {2.0}


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("gelu", r"unknown model\.activation: 'gelu'; there is: relu .*, clipped, qcfs, rate_norm"),
        ({"levels": 4}, r"unknown model\.activation: None"),
        (
            {"name": "qcfs", "steps": 4},
            r"unknown setting of model\.activation 'qcfs': 'steps'; there is: levels",
        ),
        ({"name": "relu", "cap": 4}, r"unknown model\.activation: 'relu'"),
        ({"name": "qcfs", "levels": 0}, r"activation\.levels must be a whole number of at least 1, got 0"),
        (
            {"name": "qcfs", "levels": 2.5},
            r"activation\.levels must be a whole number of at least 1, got 2.5",
        ),
        ({"name": "qcfs", "cap": -1.0}, r"activation\.cap must be a positive number, got -1.0"),
        ({"name": "clipped", "cap": "6"}, r"activation\.cap must be a positive number, got '6'"),
        ({"name": "rate_norm", "fraction": 1.5}, r"activation\.fraction must be in \(0, 1\], got 1.5"),
        ({"name": "rate_norm", "momentum": 0}, r"activation\.momentum must be in \(0, 1\], got 0"),
    ],
)
def test_bad_settings_are_named(activation, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace_activations(toy(PlainConv), activation)


def test_a_network_without_relu_modules_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"replaces nn\.ReLU modules, and MaxPooled has none"):
        replace_activations(toy(MaxPooled), "qcfs")
