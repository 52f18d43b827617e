"""Threshold and initial potential by simulation: what is chosen, and that nothing else matters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import (
    ACP,
    IF,
    LCP,
    MMSE,
    Bias,
    Burst,
    Cap,
    Max,
    NeuronSearch,
    Potential,
    Signed,
    Weights,
    calibrate,
)
from snn_lightning.analysis.cost.operations import estimate_cost
from snn_lightning.analysis.cost.timing import Prices, estimate_seconds
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.errors import SettingsError
from snn_lightning.graph import normalise
from snn_lightning.spiking import Neuron
from tests.calibration.support import (
    Custom,
    Probe,
    in_two_threads,
    largest_difference,
    make_loop,
    parameters,
    run,
    same_bits,
)
from tests.toys import Bottleneck, MaxPooled, PlainConv, Residual, inputs, toy

FEW = NeuronSearch(factors=(0.7, 1.0, 1.4), potentials=(0.3, 0.5, 0.7))


def network(bias: tuple[float, float] = (0.0, 0.0)) -> nn.Module:
    """Two neurons behind the identity, and a readout that passes them on."""
    ann = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in (ann[0], ann[2]):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
        ann[0].bias.copy_(torch.tensor(bias))
    return ann.eval()


IMAGES = torch.tensor([[1.0, 0.3], [0.5, 0.3], [0.0, 0.9]])


def first_neuron(pipeline: Custom, images: Tensor = IMAGES, ann: nn.Module | None = None) -> Any:
    model = run(network() if ann is None else ann, images, pipeline)
    return next(iter(model.neurons.values())), model.records[0]


def test_each_channel_has_the_candidate_of_least_error_by_hand() -> None:
    search = NeuronSearch(factors=(1.0, 2 / 3), potentials=(0.25, 0.5))
    neuron, record = first_neuron(Custom(2, threshold=Max(), first=search))
    # The first channel's rates are its activations 1, 0.5 and 0 already. At threshold 0.9 the other's are
    # 0.45 (v = 0.45 + 0.6 fires) twice and 0.9; at 0.6 and either potential they are 0.3, 0.3 and 0.6, and
    # at 0.9 and potential 0.225 they are 0, 0 and 0.9.
    assert neuron.v_th.tolist() == pytest.approx([1.0, 0.9])
    assert neuron.v_init.tolist() == pytest.approx([0.5, 0.45])
    errors = record["steps"]["neuron_search"]
    assert errors["before"] == errors["after"] == pytest.approx(2 * 0.15**2 / (1 + 0.25 + 2 * 0.09 + 0.81))
    assert errors["changed"] == 0


def test_a_better_threshold_is_taken_by_hand() -> None:
    images = torch.tensor([[1.0, 0.3], [0.5, 0.3], [0.0, 0.3], [0.5, 0.9]])
    search = NeuronSearch(factors=(1.0, 2 / 3), potentials=(0.5,), images=3)
    neuron, record = first_neuron(Custom(2, threshold=Max(), first=search), images)
    # Of the first three images the other channel's activations are 0.3, which threshold 0.6 meets exactly.
    assert neuron.v_th.tolist() == pytest.approx([1.0, 0.6])
    assert neuron.v_init.tolist() == pytest.approx([0.5, 0.3])
    errors = record["steps"]["neuron_search"]
    assert errors["before"] == pytest.approx(3 * 0.15**2 / (1.25 + 3 * 0.09))
    assert errors["after"] == pytest.approx(0, abs=1e-12)
    assert errors["changed"] == 0.5
    assert record["threshold"] == pytest.approx((0.6, 1.0))


def test_a_layer_wise_threshold_is_searched_as_one() -> None:
    images = torch.tensor([[0.3, 0.3], [0.0, 0.3], [0.9, 0.6]])
    search = NeuronSearch(factors=(1.0, 2 / 3), potentials=(0.5,), images=2)
    neuron, _ = first_neuron(Custom(2, threshold=Max("layer"), first=search), images)
    assert neuron.v_th.shape == neuron.v_init.shape == ()
    assert (neuron.v_th.item(), neuron.v_init.item()) == pytest.approx((0.6, 0.3))


def test_a_silent_channel_and_equals_stay_as_they_are() -> None:
    neuron, record = first_neuron(Custom(2, threshold=Max(), first=FEW), ann=network((-5.0, -5.0)))
    assert neuron.v_th.tolist() == [1.0, 1.0]
    assert record["steps"]["neuron_search"] == {"before": 0.0, "after": 0.0, "changed": 0.0}


def test_potentials_of_single_neurons_keep_what_they_differ_by() -> None:
    ann, images = toy(PlainConv), inputs(PlainConv, 16)
    seen: list[tuple[Tensor, Tensor]] = []

    def look(context: Any) -> None:
        if context.stage.kind == "neuron":
            seen.append((context.unit.v_th.clone(), context.unit.v_init.clone()))

    search = NeuronSearch(factors=(0.8, 1.0), potentials=(0.4, 0.6))
    loop = make_loop(ann, images, Custom(4, first=Potential(), second=Probe(look), third=search))
    loop.run()
    changed = 0
    for (v_th, v_init), neuron in zip(seen, loop.snn.neurons.values(), strict=True):
        assert neuron.v_init.shape == v_init.shape
        deviations = [v - v.mean((1, 2), keepdim=True) for v in (v_init, neuron.v_init)]
        torch.testing.assert_close(*deviations, rtol=0, atol=1e-5)
        moved = (neuron.v_init != v_init).flatten(1).any(1)
        fractions = (neuron.v_init.mean((1, 2)) / neuron.v_th)[moved]
        assert all(min(abs(f - 0.4), abs(f - 0.6)) < 1e-4 for f in fractions.tolist())
        assert torch.equal(neuron.v_th[~moved], v_th[~moved])
        changed += int(moved.sum())
    assert changed >= 3


@pytest.mark.parametrize("granularity", ["neuron", "channel"])
def test_potentials_before_a_layer_wise_search_keep_their_shape(granularity: str) -> None:
    ann, images = toy(PlainConv), inputs(PlainConv, 16)
    settings = {"threshold": MMSE("layer"), "first": Potential(granularity=granularity)}
    search = NeuronSearch(factors=(0.7, 0.8, 0.9, 1.1, 1.2), potentials=(0.2, 0.4, 0.6, 0.8))
    before, after = (run(ann, images, Custom(4, **settings, **s)) for s in ({}, {"second": search}))
    for one, two, record in zip(before.neurons.values(), after.neurons.values(), after.records, strict=False):
        assert (one.v_th.shape, one.v_init.shape) == (two.v_th.shape, two.v_init.shape)
        numbers = record["steps"]["neuron_search"]
        assert record["error"] == pytest.approx(numbers["after"], rel=1e-5)
        assert numbers["after"] <= numbers["before"]


@pytest.mark.parametrize("neuron", [IF(), Signed(), Burst(2), Burst(3)], ids=str)
@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("rounding", ["potential", "bias", "floor"])
def test_it_is_never_worse_than_before(neuron: Neuron, granularity: str, rounding: str) -> None:
    ann, images = toy(Residual), inputs(Residual, 24)
    settings = {"neuron": neuron, "rounding": rounding, "threshold": MMSE(granularity)}
    # With half a step in the bias there is none in the potential.
    middle = 0.0 if rounding == "bias" else 0.5
    search = NeuronSearch(factors=(0.7, 0.85, 1.0, 1.2), potentials=(middle - 0.1, middle, middle + 0.1))
    model = run(ann, images, Custom(4, first=search, **settings))
    better = 0
    for record in model.records[:-1]:
        numbers = record["steps"]["neuron_search"]
        # The record has the error of the finished stage, which is simulated once more.
        assert numbers["after"] == pytest.approx(record["error"], rel=1e-5)
        assert numbers["after"] <= numbers["before"] * (1 + 1e-8)
        better += numbers["after"] < 0.999 * numbers["before"]
    assert better or granularity == "layer"


@pytest.mark.parametrize("spikes", [1, 2, 3])
@pytest.mark.parametrize("threshold", [Cap(), MMSE()], ids=str)
def test_a_cap_stays_the_bound(spikes: int, threshold: Any) -> None:
    ann, images = toy(Bottleneck), 20 * inputs(Bottleneck, 16)
    search = NeuronSearch(factors=(1.0, 1.5, 3.0), potentials=(0.4, 0.6))
    seen = []

    def look(context: Any) -> None:
        if context.stage.kind == "neuron":
            seen.append((context.unit, context.snn.network.nodes[context.stage.name].settings["cap"]))

    settings = Custom(4, neuron=Burst(spikes), threshold=threshold, first=search, second=Probe(look))
    if isinstance(threshold, Cap):
        ann = capped()
        images = 20 * inputs(PlainConv, 16)
    run(ann, images, settings)
    bounds = [(unit, cap) for unit, cap in seen if cap is not None]
    assert bounds
    for unit, cap in bounds:
        assert unit.v_th.max().item() * spikes <= cap * (1 + 1e-6)


def capped() -> nn.Module:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Flatten())
    size = ann(inputs(PlainConv, 1)).shape[1]
    return nn.Sequential(*ann, nn.Linear(size, 2)).eval()


@pytest.mark.parametrize("neuron", [IF(), Signed()], ids=str)
def test_neither_chunks_nor_the_cache_nor_parts_of_time_change_the_result(neuron: Neuron) -> None:
    ann, images = toy(MaxPooled), inputs(MaxPooled, 20)
    pipeline = {"first": FEW, "second": Bias(), "neuron": neuron}
    plain = run(ann, images, Custom(32, **pipeline))
    for settings in ({"cache_place": "disk"}, {"cache_budget_gb": 1e-5}, {"seed": 1}):
        assert same_bits(plain, run(ann, images, Custom(32, **pipeline, **settings)))
    loop = make_loop(ann, images, Custom(32, **pipeline))
    loop.snn.rows = 10**6
    loop.run()
    for name, value in parameters(loop.snn).items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_the_currents_are_computed_once_and_nothing_is_left() -> None:
    ann, images = toy(PlainConv), inputs(PlainConv, 64)
    used = []
    for budget in (None, 1e-9):
        calls: list[int] = []
        pipeline = Custom(4, first=Probe(lambda context: None), second=FEW, cache_budget_gb=budget)
        loop = make_loop(ann, images, pipeline)
        operators = loop.snn.network.operators
        for name in loop.snn.network.stages[1].operators:
            operators[name].register_forward_hook(lambda m, x, y, c=calls: c.append(len(y)))
        loop.run()
        used.append(sum(calls))
        assert loop.cache.used == 0 or budget is None
    # Without room for them the currents of the stage are computed once more to fire.
    assert used[1] == 2 * used[0]


class Stop(Observer):
    """Breaks off when stage 3 begins."""

    def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
        if index == 3:
            raise KeyboardInterrupt


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    ann, images, seen = toy(Residual), [inputs(Residual, 16)], []

    class Note(Observer):
        def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
            seen.append(resumed)

    pipeline = LCP(4, search=FEW, bias=Bias(repeats=2))
    with pytest.raises(KeyboardInterrupt):
        run_calibration(ann, list(images), pipeline, Communicator(), Stop(), tmp_path)
    resumed, _ = run_calibration(ann, list(images), pipeline, Communicator(), Note(), tmp_path)
    assert seen == [True] * 3 + [False] * 3
    assert same_bits(resumed, calibrate(ann, images, pipeline, progress=False))


def test_pipelines_search_before_the_bias_and_after_the_weights() -> None:
    ann, images = toy(PlainConv), [inputs(PlainConv, 16)]
    lcp = calibrate(ann, images, LCP(4, search=FEW), progress=False)
    assert list(lcp.records[0]["steps"]) == ["threshold", "neuron_search", "bias"]
    assert same_bits(lcp, run(ann, images[0], Custom(4, first=FEW, second=Bias())))
    acp = calibrate(ann, images, ACP(4, weights=Weights(2, batch_size=8), search=FEW), progress=False)
    assert list(acp.records[0]["steps"]) == ["threshold", "weights", "neuron_search", "potential"]
    assert list(acp.records[-1]["steps"]) == ["weights", "neuron_search", "potential"]
    for cls in (LCP, ACP):
        with pytest.raises(SettingsError, match=r"search must be a step such as NeuronSearch\(\), or None"):
            cls(4, search="on")


def test_the_cost_model_counts_repeats_and_candidates() -> None:
    pipeline = LCP(8, search=NeuronSearch((1.0, 1.2), (0.5,), images=10), bias=Bias(repeats=3))
    assert pipeline.work(50) == Work(50, 8, 10 + 3 * 50, searched=2 * 10)
    network, sample = normalise(toy(PlainConv), inputs(PlainConv, 2)), inputs(PlainConv, 2)
    costs = [estimate_cost(network, sample.shape[1:], Work(50, 8, 50, searched=s)) for s in (0, 20)]
    # Candidates cost neurons and comparisons, and no memory.
    assert costs[0].peak_bytes == costs[1].peak_bytes
    prices = [Prices(forward=1.0, unit=0.1, look=0.01, hold=0.001, step=5.0)] * 3
    without, more = (estimate_seconds(cost, prices).simulate for cost in costs)
    assert [b - a for a, b in zip(without, more, strict=True)] == pytest.approx([20 * 0.81] * 2 + [0])
    # Neither do repeats keep more than all images' currents.
    twice = estimate_cost(network, sample.shape[1:], Work(50, 8, 100))
    assert twice.peak_bytes == costs[0].peak_bytes


@pytest.mark.parametrize("images", [33, 2])
def test_two_processes_equal_one(images: int) -> None:
    ann, data = toy(Residual), inputs(Residual, images)
    steps = {"first": NeuronSearch((0.8, 1.0, 1.2), (0.4, 0.6), images=min(images - 1, 20))}
    pipeline = Custom(4, **steps, second=Bias(repeats=2))
    one, two = run(ann, data, pipeline), in_two_threads(ann, [data], pipeline)
    assert same_bits(*two)
    assert largest_difference(parameters(two[0]), parameters(one)) < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": ()}, r"search\.factors must be a list of finite numbers, got \(\)"),
        ({"factors": 0.5}, r"search\.factors must be a list of finite numbers, got 0\.5"),
        ({"factors": (1.0, "2")}, r"search\.factors must be a list of finite numbers"),
        ({"factors": (1.0, 0)}, r"search\.factors must be above 0, got \[1\.0, 0\]"),
        ({"potentials": []}, r"search\.potentials must be a list of finite numbers"),
        ({"potentials": (float("nan"),)}, r"search\.potentials must be a list of finite numbers"),
        ({"potentials": (True,)}, r"search\.potentials must be a list of finite numbers"),
        ({"images": 0}, r"search\.images must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_settings_name_the_field(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        NeuronSearch(**settings)


def test_lists_of_yaml_are_as_good_as_tuples() -> None:
    assert NeuronSearch(factors=[1, 1.5], potentials=[0.5]) == NeuronSearch((1, 1.5), (0.5,))
    assert NeuronSearch((1, 1.5), (0.5,)).candidates == 3
