"""The settings check themselves and name the bad field."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch

from snn_lightning import (
    ACP,
    LCP,
    MMSE,
    Baseline,
    Best,
    Bias,
    Distillation,
    LeastSquares,
    Max,
    NeuronSearch,
    Percentile,
    Pipeline,
    Potential,
    SpikeNorm,
    Weights,
    calibrate,
)
from snn_lightning.calibration.steps.base import FinalStep, Step, record_keys, register_step
from snn_lightning.calibration.walk.context import StepReport
from snn_lightning.errors import SettingsError, SNNLightningError
from snn_lightning.thresholds import Threshold, register_threshold
from tests.calibration.support import same_bits
from tests.toys import AS_GIVEN, MaxPooled, PlainConv, inputs, toy


@pytest.mark.parametrize("pipeline", [Pipeline, Baseline, LCP, ACP])
@pytest.mark.parametrize("timesteps", [0, -1, 2.5, 4.0, True, None, "4", float("nan")])
def test_timesteps(pipeline, timesteps):
    with pytest.raises(SettingsError, match=r"timesteps \(T\) must be a whole number of at least 1, got "):
        pipeline(timesteps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounding": "nearest"}, "rounding must be one of potential, bias, floor, got 'nearest'"),
        ({"max_pooling": "spikes"}, "max_pooling must be one of gated, average, keep, got 'spikes'"),
        ({"threshold": "mmse"}, r"threshold must be a Threshold such as MMSE\(\), got 'mmse'"),
        ({"threshold": MMSE}, "threshold must be a Threshold"),
        ({"threshold": None}, "threshold must be a Threshold"),
        ({"threshold": Threshold()}, "threshold Threshold is not registered: put @register_threshold on it"),
        ({"cache_budget_gb": 0}, "pipeline.cache_budget_gb must be a positive number, got 0"),
        ({"cache_budget_gb": float("inf")}, "pipeline.cache_budget_gb must be a positive number, got inf"),
        ({"cache_budget_gb": "8"}, "pipeline.cache_budget_gb must be a positive number, got '8'"),
        ({"seed": -1}, "pipeline.seed must be a whole number of at least 0, got -1"),
        ({"seed": None}, "pipeline.seed must be a whole number"),
        ({"seed": 0.5}, "pipeline.seed must be a whole number"),
    ],
)
def test_pipeline(settings, message):
    for pipeline in (Baseline, LCP, ACP):
        with pytest.raises(SettingsError, match=message):
            pipeline(4, **settings)


@pytest.mark.parametrize(
    ("step", "settings", "message"),
    [
        (Bias, {"images": 0}, "bias.images must be a whole number of at least 1, got 0"),
        (Bias, {"images": -5}, "bias.images must be a whole number of at least 1, got -5"),
        (Bias, {"images": True}, "bias.images must be a whole number of at least 1, got True"),
        (Potential, {"images": 1.5}, "potential.images must be a whole number of at least 1, got 1.5"),
        (
            Potential,
            {"granularity": "pixel"},
            "potential.granularity must be 'neuron' or 'channel', got 'pixel'",
        ),
        (Weights, {"iterations": 0}, "weights.iterations must be a whole number of at least 1, got 0"),
        (Weights, {"iterations": None}, "weights.iterations must be a whole number of at least 1, got None"),
        (Weights, {"batch_size": 0}, "weights.batch_size must be a whole number of at least 1, got 0"),
        (Weights, {"images": -1}, "weights.images must be a whole number of at least 1, got -1"),
        (Weights, {"learning_rate": 0}, "weights.learning_rate must be a positive number, got 0"),
        (Weights, {"learning_rate": -1e-5}, "weights.learning_rate must be a positive number, got -1e-05"),
        (
            Weights,
            {"learning_rate": float("nan")},
            "weights.learning_rate must be a positive number, got nan",
        ),
        (Weights, {"step_size": 0.0}, "weights.step_size must be a positive number, got 0.0"),
        (Weights, {"step_size": None}, "weights.step_size must be a positive number, got None"),
        (Weights, {"momentum": 1.0}, r"weights.momentum must be in \[0, 1\), got 1.0"),
        (Weights, {"momentum": -0.1}, r"weights.momentum must be in \[0, 1\), got -0.1"),
        (Weights, {"momentum": "0.9"}, r"weights.momentum must be in \[0, 1\), got '0.9'"),
    ],
)
def test_steps(step, settings, message):
    with pytest.raises(SettingsError, match=message):
        step(**settings)


STEPS = [LCP(4, search=NeuronSearch()), ACP(4), Best(4), SpikeNorm(4)]


@pytest.mark.parametrize("pipeline", STEPS, ids=lambda p: type(p).__name__)
def test_messages_name_the_field_that_holds_the_step(pipeline):
    for field in dataclasses.fields(pipeline):
        step = getattr(pipeline, field.name)
        if isinstance(step, Step | FinalStep):
            for setting in dataclasses.fields(step):
                with pytest.raises(SettingsError, match=rf"^{field.name}\.{setting.name} must be"):
                    dataclasses.replace(step, **{setting.name: object()})


@pytest.mark.parametrize("pipeline", [Baseline, LCP, ACP])
def test_unknown_fields_fail(pipeline):
    with pytest.raises(TypeError, match="unexpected keyword argument 'T'"):
        pipeline(4, T=4)


@pytest.mark.parametrize("step", ["bias", Bias, False, 3])
def test_a_field_must_hold_a_step(step):
    with pytest.raises(
        SettingsError, match=r"^bias must be a step such as Bias\(\), or None to leave it out, got "
    ):
        LCP(4, bias=step)


@pytest.mark.parametrize(
    ("pipeline", "field", "step", "fits"),
    [
        (LCP, "search", Bias(), r"NeuronSearch\(\)"),
        (LCP, "bias", Potential(), r"Bias\(\)"),
        (ACP, "weights", Bias(), r"Weights\(\) or LeastSquares\(\)"),
        (ACP, "search", Distillation(), r"NeuronSearch\(\)"),
        (Best, "distillation", Bias(), r"Distillation\(\)"),
        (SpikeNorm, "balance", Weights(), r"Balance\(\)"),
    ],
)
def test_a_field_takes_only_steps_of_its_own_kind(pipeline, field, step, fits):
    message = rf"^{field} must be a step such as {fits}, or None to leave it out, got {type(step).__name__}\("
    with pytest.raises(SettingsError, match=message):
        pipeline(4, **{field: step})


@register_step
@dataclass(frozen=True)
class Halfway(Bias):
    """A step of a user's own that does what `Bias` does, and says more of it."""

    def run(self, context):
        report = super().run(context)
        return dataclasses.replace(report, details={**report.details, "halfway": 1.0})


@register_step
@dataclass(frozen=True)
class Renamed(Bias):
    """A step of a user's own that does what `Bias` does."""


@dataclass(frozen=True)
class Twice(LCP):
    """The bias twice, once before and once after the potentials."""

    potential: Potential | None = dataclasses.field(default_factory=Potential)
    again: Bias | None = dataclasses.field(default_factory=Bias)


def test_a_subclass_of_a_step_fits_where_the_step_does():
    ann, images = toy(PlainConv), inputs(PlainConv)
    plain, renamed, own = (
        calibrate(ann, [images], LCP(4, bias=bias), progress=False) for bias in (Bias(), Renamed(), Halfway())
    )
    assert same_bits(plain, renamed)
    assert same_bits(plain, own)
    assert own.records[0]["steps"]["halfway"]["halfway"] == 1.0
    assert renamed.records[0]["steps"]["renamed"] == plain.records[0]["steps"]["bias"]
    assert LCP(4, bias=Renamed(repeats=3)).work(10) == LCP(4, bias=Bias(repeats=3)).work(10)


def test_steps_of_one_class_keep_a_record_each():
    ann, images = toy(PlainConv), inputs(PlainConv)
    model = calibrate(ann, [images], Twice(4), progress=False)
    steps = model.records[0]["steps"]
    assert list(steps) == ["threshold", "bias", "potential", "bias_2"]
    once = calibrate(ann, [images], Twice(4, again=None), progress=False).records[0]
    assert steps["bias"] | {"after": 0} == once["steps"]["bias"] | {"after": 0}
    assert steps["bias_2"]["before"] == pytest.approx(once["error"])
    assert Twice(4).work(10).corrected == 30


@register_step
@dataclass(frozen=True)
class Look(FinalStep):
    """A step on the whole network that changes nothing."""

    def run(self, context):
        return StepReport(0.5, 0.25, {"images": float(context.total)})


def test_final_steps_of_one_class_keep_a_record_each():
    @dataclass(frozen=True)
    class Looks(Baseline):
        first: Look | None = dataclasses.field(default_factory=Look)
        second: Look | None = dataclasses.field(default_factory=Look)

    ann, images = toy(PlainConv), inputs(PlainConv, 4)
    model = calibrate(ann, [images], Looks(4), progress=False)
    last = model.records[-2:]
    assert [record["name"] for record in last] == ["look", "look_2"]
    assert [list(record["steps"]) for record in last] == [["look"], ["look_2"]]
    assert last[1]["steps"]["look_2"] == {"before": 0.5, "after": 0.25, "images": 4.0}


def test_a_class_whose_name_looks_numbered_keeps_its_record_too():
    class Bias_2(Bias):
        pass

    assert record_keys([Bias(), Bias_2(), Bias(), Bias()]) == ["bias", "bias_2", "bias_3", "bias_4"]
    assert record_keys([type("Threshold", (Bias,), {})()]) == ["threshold_2"]


def test_a_step_without_run_can_not_be_made():
    @dataclass(frozen=True)
    class Nothing(Step):
        pass

    with pytest.raises(TypeError, match=r"abstract class Nothing.*run"):
        Nothing()


def test_an_annotation_that_can_not_be_read_is_named():
    @dataclass(frozen=True)
    class Unreadable(Baseline):
        step: "Missing | None" = None  # noqa: F821

    with pytest.raises(
        SettingsError, match=r"Unreadable can't be read .*'Missing'.*at the top of the module"
    ):
        Unreadable(4)


def test_a_threshold_must_be_registered():
    @dataclass(frozen=True)
    class Own(Threshold):
        def find(self, histogram, timesteps, half_step):
            return histogram.maximum

    with pytest.raises(
        SettingsError, match=r"threshold tests\..*Own is not registered: put @register_thresh"
    ):
        LCP(4, threshold=Own())


def test_a_step_can_be_left_out():
    assert LCP(4, bias=None).steps == ()
    assert ACP(4, weights=None).steps == (Potential(),)
    ann, images = toy(PlainConv), inputs(PlainConv)
    plain = calibrate(ann, [images], Baseline(4), progress=False)
    assert same_bits(
        plain, calibrate(ann, [images], ACP(4, **AS_GIVEN, weights=None, potential=None), progress=False)
    )


def test_settings_are_frozen_values():
    pipeline = ACP(4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pipeline.timesteps = 8
    assert pipeline == ACP(4)
    assert pipeline != ACP(4, seed=1)
    assert dataclasses.replace(pipeline, timesteps=8).timesteps == 8
    with pytest.raises(SettingsError, match="timesteps"):
        dataclasses.replace(pipeline, timesteps=0)
    assert issubclass(SettingsError, SNNLightningError)
    assert issubclass(SettingsError, ValueError)


@register_threshold
@dataclass(frozen=True)
class Half(Threshold):
    """A threshold of a user's own."""

    factor: float = 0.5

    def find(self, histogram, timesteps, half_step):
        return self.factor * histogram.maximum


def test_a_threshold_of_ones_own():
    ann, images = toy(PlainConv), inputs(PlainConv)
    own = calibrate(ann, [images], LCP(4, threshold=Half(factor=0.25)), progress=False)
    maxima = calibrate(ann, [images], LCP(4, threshold=Max()), progress=False)
    for name, neuron in own.neurons.items():
        torch.testing.assert_close(neuron.v_th, 0.25 * maxima.neurons[name].v_th)


@pytest.mark.parametrize(
    "settings",
    [
        {"rounding": "bias"},
        {"rounding": "floor"},
        {"threshold": Max()},
        {"threshold": Max("layer")},
        {"threshold": Percentile(percentile=90.0)},
        {"threshold": MMSE("layer")},
        {"max_pooling": "average"},
        {"max_pooling": "keep"},
        {"seed": 1},
        {"calibrate_readout": False},
        {"weights": Weights(4, batch_size=8)},
        {"potential": Potential(granularity="channel")},
        {"potential": Potential(images=4)},
    ],
)
def test_every_setting_changes_the_result(settings):
    ann, images = toy(MaxPooled), inputs(MaxPooled, 16)
    weights = Weights(3, step_size=0.01, batch_size=8)
    models = [
        calibrate(ann, [images], ACP(3, **AS_GIVEN, **{"weights": weights, **chosen}), progress=False)
        for chosen in ({}, settings)
    ]
    outputs = [model(images) for model in models]
    assert not torch.equal(*outputs)
    assert all(torch.isfinite(output).all() for output in outputs)


def test_average_pooling_gets_neurons():
    ann, images = toy(PlainConv), inputs(PlainConv)
    plain = calibrate(ann, [images], LCP(4), progress=False)
    converted = calibrate(ann, [images], LCP(4, convert_avg_pool=True), progress=False)
    assert len(converted.neurons) > len(plain.neurons)
    assert all(record["steps"]["bias"] for record in converted.records)


def test_rounding_decides_where_the_half_step_lies():
    ann, images = toy(PlainConv), inputs(PlainConv)
    for rounding, v_init, bias in (("potential", 0.5, 0), ("bias", 0, 0.5 / 4), ("floor", 0, 0)):
        model = calibrate(ann, [images], Baseline(4, rounding=rounding), progress=False)
        for neuron in model.neurons.values():
            assert torch.equal(neuron.v_init, v_init * neuron.v_th)
            assert torch.equal(neuron.bias, bias * neuron.v_th)
    one, two = (calibrate(ann, [images], Baseline(4), progress=False) for _ in range(2))
    assert same_bits(one, two)


def test_of_many_images_best_solves_for_weights_on_some():
    def images(given, **settings):
        pipeline = Best(4, **settings).decided([torch.zeros(1, 3, 8, 8)], given)
        return pipeline.weights.images

    assert (images(1024), images(1025), images(4096)) == (None, 1024, 1024)
    assert images(4096, weights=LeastSquares(images=2000)) == 2000
    # Held-out images, which choose the ridge, come last; without distillation nothing else sees the rest.
    assert images(4096, held_out=0.1) is None
    assert images(4096, distillation=None) is None
    assert Best(4, weights=Weights()).decided([torch.zeros(1, 3, 8, 8)], 4096).weights == Weights()
    assert Best(4).decided([torch.zeros(1, 3, 8, 8)], 4096).work(4096).solved == 1024
