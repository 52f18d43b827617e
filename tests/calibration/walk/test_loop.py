"""The sweep: equal to re-running the whole network for each stage, at the cost of running it once."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from snn_lightning import ACP, LCP, MMSE, Baseline, Bias, Max, Pipeline, Potential, Weights, calibrate
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.walk.context import StepReport
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.errors import SettingsError
from snn_lightning.graph.operators import traits_of
from tests.calibration.support import (
    Custom,
    Probe,
    activations,
    literal_simulation,
    make_loop,
    run,
)
from tests.toys import INPUT_SHAPES, TOYS, Dense, MaxPooled, PlainConv, Residual, Vector, inputs, toy


def literal_mmse(x, timesteps):
    """Algorithm 1 for one channel: try every threshold on every activation, in float64."""
    x, best = x.double(), (math.inf, 0.0)
    for j in range(1, 101):
        v_th = j / 100 * x.max()
        rounded = v_th / timesteps * (timesteps * x / v_th + 0.5).floor().clamp(0, timesteps)
        best = min(best, ((rounded - x).square().sum().item(), v_th.item()))
    return best[1]


def literal_greedy_lcp(ann, images, timesteps, find):
    """Algorithm 2 with LCP: run the whole ANN and the whole SNN anew for each layer."""
    loop = make_loop(ann, images, LCP(timesteps))
    snn = loop.snn
    for stage in snn.network.stages:
        x, unit = activations(loop.ann, images)[stage.name], snn.units[stage.name]
        if stage.kind == "neuron":
            v_th = torch.tensor([find(x[:, c], timesteps) for c in range(x.shape[1])])
            # A channel that is never positive takes the layer's largest threshold.
            unit.set_threshold(torch.where(v_th > 0, v_th, v_th.max()), "potential", timesteps)
        error = x - literal_simulation(snn, images)[stage.name]
        unit.bias = (
            unit.bias + error.flatten(2).mean((0, 2)) if error.dim() > 2 else unit.bias + error.mean(0)
        )
    return snn


@pytest.mark.parametrize(
    ("threshold", "find"), [(Max(), lambda x, timesteps: x.max().item()), (MMSE(), literal_mmse)]
)
@pytest.mark.parametrize("cls", [Residual, Dense])
def test_equals_running_the_whole_network_again_for_each_stage(cls, threshold, find):
    ann, images, timesteps = toy(cls), inputs(cls, 40), 4
    expected = literal_greedy_lcp(ann, images, timesteps, find)
    model = run(ann, images, LCP(timesteps, threshold=threshold))
    for name, unit in model.units.items():
        torch.testing.assert_close(unit.bias, expected.units[name].bias, atol=1e-5, rtol=1e-5)
        if name in model.neurons:
            torch.testing.assert_close(unit.v_th, expected.units[name].v_th, atol=1e-5, rtol=1e-5)
    output = literal_simulation(expected, images)[expected.network.stages[-1].name]
    torch.testing.assert_close(model(images), output, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cls", TOYS)
def test_the_errors_of_the_records_are_those_of_the_finished_model(cls):
    images = inputs(cls, 20)
    loop = make_loop(toy(cls), images, ACP(3, weights=Weights(4, batch_size=8)))
    records = loop.run()
    exact = activations(loop.ann, images)
    if all(stage.kind != "gate" for stage in loop.snn.network.stages):
        rates = literal_simulation(loop.snn, images)
        for record in records:
            x = exact[record["name"]]
            error = (x - rates[record["name"]]).square().sum() / x.square().sum()
            assert record["error"] == pytest.approx(error.item(), rel=1e-3, abs=1e-6), record["name"]
    spikes = loop.snn.spikes(images)
    for record in records:
        if record["kind"] == "neuron":
            train = spikes[record["name"]]
            assert record["firing_rate"] == pytest.approx((train > 0).double().mean().item(), abs=1e-4)
    output, readout = loop.snn(images), exact[loop.ann.output]
    error = (output - readout).square().sum() / readout.square().sum()
    assert records[-1]["error"] == pytest.approx(error.item(), rel=1e-3, abs=1e-6)


def chain(depth: int) -> nn.Module:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(3 if index == 0 else 4, 4, 3, padding=1), nn.ReLU()]
    torch.manual_seed(depth)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 36, 3))


def count_rows(network: nn.Module) -> dict[str, list[int]]:
    """Return, for each synapse, a list that grows by the number of rows of every call."""
    calls: dict[str, list[int]] = {}
    for name, operator in network.operators.items():
        if traits_of(operator).weighted:
            rows = calls[name] = []
            operator.register_forward_hook(lambda module, args, out, rows=rows: rows.append(args[0].shape[0]))
    return calls


@pytest.mark.parametrize("pipeline", [LCP(4), LCP(4, bias=Bias(images=10)), Custom(4, first=Potential())])
@pytest.mark.parametrize("depth", [2, 6])
def test_every_convolution_runs_once_whatever_the_depth(depth, pipeline):
    count, timesteps = 70, 4
    images = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    loop = make_loop(chain(depth), images, pipeline)
    chunks = [len(index) for index in loop.indices]
    assert len(chunks) > 1
    ann, snn = count_rows(loop.ann), count_rows(loop.snn.network)
    loop.run()
    assert len(ann) == len(snn) == depth + 1
    assert all(calls == chunks for calls in ann.values())
    first, *later = snn.values()
    assert first == chunks
    assert all(calls == [timesteps * n for n in chunks] for calls in later)


@pytest.mark.parametrize("cls", [Residual, Dense, MaxPooled])
def test_every_operator_runs_once_in_networks_with_branches(cls):
    timesteps, images = 3, inputs(cls, 20)
    loop = make_loop(toy(cls), images, LCP(timesteps))
    ann, snn = count_rows(loop.ann), count_rows(loop.snn.network)
    loop.run()
    for name, calls in snn.items():
        assert ann[name] == [20]
        assert calls == [20 * (timesteps if name in loop.snn.network.temporal else 1)]


def test_weight_calibration_simulates_each_stage_once():
    count, timesteps, batch = 20, 4, 8
    images = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    loop = make_loop(chain(4), images, ACP(timesteps, weights=Weights(3, batch_size=batch)))
    ann, snn = count_rows(loop.ann), count_rows(loop.snn.network)
    loop.run()
    assert all(calls == [count] for calls in ann.values())
    _, *later = snn.values()
    assert all(calls.count(timesteps * count) == 1 for calls in later)


@pytest.mark.parametrize("hold", [False, True])
def test_a_step_may_simulate_as_often_as_it_likes(hold):
    """Values that a stage exports are kept once, however often its currents are computed."""

    def twice(context):
        for _ in range(2):
            for _ in context.simulate(hold=hold):
                pass
        assert all(len(stored) == len(context.indices) for stored in context.exports.values())

    images = inputs(Dense, 70)
    with_probe = run(toy(Dense), images, Custom(4, first=Probe(twice), second=Bias()))
    assert with_probe.records[-1]["error"] == run(toy(Dense), images, LCP(4)).records[-1]["error"]


def test_nothing_is_kept_that_nobody_reads():
    held = []
    loop = make_loop(toy(Residual), inputs(Residual, 8), LCP(4))

    class Look(Observer):
        def stage_finished(self, record, total):
            # The values in the loop are those that later stages read, and the cache counts no more.
            keys = {key for stage in loop.snn.network.stages[record.index + 1 :] for key in stage.inputs}
            assert set(loop.values) <= keys
            held.append(loop.cache.used)

    loop.observer = Look()
    loop.run()
    assert held[-1] == 0
    assert max(held) > 0


def test_steps_run_in_the_order_of_the_fields():
    order = []
    pipeline = Custom(
        2,
        first=Probe(lambda context: order.append(("one", context.stage.name))),
        second=Probe(lambda context: order.append(("two", context.stage.name))),
        third=Bias(),
    )
    assert pipeline.steps == (pipeline.first, pipeline.second, Bias())
    assert [type(step) for step in ACP(2).steps] == [Weights, Potential]
    assert [type(step) for step in LCP(2).steps] == [Bias]
    assert Baseline(2).steps == Pipeline(2).steps == ()
    loop = make_loop(toy(Vector), inputs(Vector, 4), pipeline)
    loop.run()
    assert order == [(word, stage.name) for stage in loop.snn.network.stages for word in ("one", "two")]


@register_step
@dataclass(frozen=True)
class Shrink(Step):
    """A step of a user's own: lower every threshold."""

    factor: float = 0.5

    def run(self, context) -> StepReport:
        if context.stage.kind == "neuron":
            context.unit.v_th = context.unit.v_th * self.factor
        return StepReport(1.0, 0.25, {"factor": self.factor})


@dataclass(frozen=True)
class Unregistered(Shrink):
    """A step that nobody has registered."""


@dataclass(frozen=True)
class Own(Pipeline):
    shrink: Step = field(default_factory=Shrink)
    bias: Bias = field(default_factory=Bias)


def test_a_registered_step_runs():
    images = inputs(PlainConv, 8)
    plain = calibrate(toy(PlainConv), [images], Baseline(4), progress=False)
    model = calibrate(toy(PlainConv), [images], Own(4, shrink=Shrink(0.25)), progress=False)
    for name, neuron in model.neurons.items():
        assert torch.equal(neuron.v_th, 0.25 * plain.neurons[name].v_th)
    assert [list(record["steps"]) for record in model.records] == [
        ["threshold", "shrink", "bias"],
        ["threshold", "shrink", "bias"],
        ["shrink", "bias"],
    ]
    assert model.records[0]["steps"]["shrink"] == {"before": 1.0, "after": 0.25, "factor": 0.25}


def test_a_step_that_is_not_registered_is_refused_when_the_pipeline_is_built():
    with pytest.raises(
        SettingsError, match=r"step tests\.Unregistered is not registered: put @register_step on its class"
    ):
        Own(4, shrink=Unregistered())


def test_the_readout_can_be_left_alone():
    images = inputs(PlainConv, 16)
    loop = make_loop(
        toy(PlainConv), images, ACP(4, weights=Weights(2, batch_size=8), calibrate_readout=False)
    )
    records = loop.run()
    assert records[-1]["steps"] == {}
    assert torch.equal(loop.snn.network.operators["head"].weight, loop.ann.operators["head"].weight)
    assert loop.snn.units["readout_head"].bias.item() == 0


def test_a_gate_has_no_parameters_to_calibrate():
    model = calibrate(toy(MaxPooled), [inputs(MaxPooled, 16)], LCP(4), progress=False)
    gate = next(record for record in model.records if record["kind"] == "gate")
    assert gate["steps"] == {}
    assert gate["threshold"] is gate["firing_rate"] is None
    assert 0 < gate["error"] < 1


def test_the_ann_is_left_as_it_is():
    ann = toy(Residual).train()
    before = {name: value.clone() for name, value in ann.state_dict().items()}
    calibrate(ann, [inputs(Residual, 16)], ACP(4, weights=Weights(3, batch_size=8)), progress=False)
    assert all(torch.equal(value, before[name]) for name, value in ann.state_dict().items())
    assert all(module.training for module in ann.modules())
    assert all(parameter.requires_grad for parameter in ann.parameters())


def test_the_model_says_what_it_is():
    model = calibrate(toy(PlainConv), [inputs(PlainConv, 4)], LCP(4), progress=False)
    assert model.status == "calibrated"
    assert model.timesteps == 4
    assert not model.training
    assert [record["index"] for record in model.records] == [0, 1, 2]
    assert [record["path"] for record in model.records] == ["features.2", "features.6", ""]
    assert all(record["seconds"] > 0 for record in model.records)
    assert [list(record["seconds_by_step"]) for record in model.records] == [
        ["observe", *record["steps"], "fire"] for record in model.records
    ]
    for record in model.records:
        assert min(record["seconds_by_step"].values()) > 0
        assert sum(record["seconds_by_step"].values()) < record["seconds"]


def test_progress_is_printed_a_line_a_stage(capsys):
    calibrate(toy(PlainConv), [inputs(PlainConv, 16)], ACP(4, weights=Weights(2, batch_size=8)))
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines] == ["[  1/3]", "[  2/3]", "[  3/3]"]
    assert all(
        word in lines[0] for word in ("features", "threshold", "weights", "potential", "error", "rate")
    )
    calibrate(toy(PlainConv), [inputs(PlainConv, 4)], LCP(4), progress=False)
    assert capsys.readouterr().out == ""


def test_inputs_may_be_of_any_shape():
    for cls in TOYS:
        model = calibrate(toy(cls), [inputs(cls, 6)], LCP(3), progress=False)
        assert model(inputs(cls, 2)).shape == toy(cls)(inputs(cls, 2)).shape
        assert len(INPUT_SHAPES[cls]) == inputs(cls).dim() - 1


@pytest.mark.parametrize("timesteps", [8, 40])
def test_the_firing_rate_does_not_depend_on_the_parts_of_time(timesteps):
    x = inputs(PlainConv, 16)
    snn = calibrate(toy(PlainConv), [x], Baseline(timesteps), progress=False)
    for record in snn.records[:-1]:
        train = snn.spikes(x)[record["name"]]
        assert record["firing_rate"] == pytest.approx((train > 0).double().mean().item(), abs=1e-4)
