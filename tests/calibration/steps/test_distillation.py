"""The last step: the whole network learns the ANN's outputs."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from snn_lightning import ACP, Augmentation, Best, Burst, Distillation, IFNeuron, Pipeline, Signed, calibrate
from snn_lightning.calibration.steps.distillation import NetworkLoop
from snn_lightning.calibration.steps.muon import Muon
from snn_lightning.calibration.walk.cache import Cache
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.resume import PartialCheckpoint
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.spiking import Neuron, register_neuron
from tests.calibration.support import (
    in_two_threads,
    largest_difference,
    make_loop,
    parameters,
    run,
    same_bits,
)
from tests.toys import AS_GIVEN, Bottleneck, Dense, MaxPooled, Residual, Vector, inputs, toy

SHORT = Distillation(iterations=40, batch_size=16)


@pytest.mark.parametrize("cls", [Residual, Bottleneck, Dense, MaxPooled, Vector])
def test_lowers_the_error_of_the_outputs(cls):
    ann, images = toy(cls), inputs(cls, 48)
    pipeline = Best(4, held_out=0, weights=None, potential=None, distillation=Distillation(60, batch_size=16))
    model = run(ann, images, pipeline)
    record = model.records[-1]
    numbers = record["steps"]["distillation"]
    assert (record["kind"], record["name"]) == ("network", "distillation")
    assert numbers["kept"] == 1.0
    with torch.no_grad():
        target, output = ann(images), model(images)
    expected = ((output - target).square().sum() / target.square().sum()).item()
    assert numbers["after"] == pytest.approx(expected, rel=1e-4)
    assert numbers["after"] == record["error"] < 0.8 * numbers["before"]
    walked = run(ann, images, Best(4, held_out=0, weights=None, potential=None, distillation=None))
    assert walked.records[-1]["error"] == pytest.approx(numbers["before"], rel=1e-4)


def test_nothing_is_left_to_gradients_and_all_neurons_stay_valid():
    model = run(
        toy(Bottleneck),
        inputs(Bottleneck, 32),
        Best(4, held_out=0, distillation=Distillation(10, step_size=0.5)),
    )
    state = model.state_dict(keep_vars=True)
    assert not any(value.requires_grad for value in state.values())
    assert all(value.is_leaf and torch.isfinite(value).all() for value in state.values())
    for name, neuron in model.neurons.items():
        cap = model.network.nodes[name].settings["cap"]
        assert (neuron.v_th > 0).all()
        assert cap is None or (neuron.v_th <= cap).all()


def test_what_ends_up_worse_is_put_back():
    ann, images = toy(Residual), inputs(Residual, 32)
    wild = run(ann, images, Best(4, held_out=0, distillation=Distillation(3, step_size=50.0)))
    numbers = wild.records[-1]["steps"]["distillation"]
    assert numbers["kept"] == 0.0
    assert numbers["after"] == numbers["before"]
    with torch.no_grad():
        assert torch.equal(wild(images), run(ann, images, Best(4, held_out=0, distillation=None))(images))


def test_an_output_of_several_tensors_counts_each():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(8, 2)

        def forward(self, x):
            h = torch.relu(self.first(x))
            return {"a": self.a(h), "rest": (self.b(h), h)}

    torch.manual_seed(0)
    ann, images = Two().eval(), torch.randn(40, 5)
    model = run(ann, images, Distilled(3, held_out=0))
    with torch.no_grad():
        target, output = ann(images), model(images)
    pairs = [(target["a"], output["a"]), *zip(target["rest"], output["rest"], strict=True)]
    errors = [((o - t).square().sum() / t.square().sum()).item() for t, o in pairs]
    numbers = model.records[-1]["steps"]["distillation"]
    assert numbers["after"] == pytest.approx(sum(errors) / 3, rel=1e-4)


class Distilled(Pipeline):
    """Thresholds, then the last step."""

    @property
    def final_steps(self):
        return (SHORT,)


def test_the_same_seed_gives_the_same_network():
    images = inputs(Residual, 32)
    models = [
        run(toy(Residual), images, Best(4, held_out=0, seed=seed, distillation=SHORT)) for seed in (3, 3, 4)
    ]
    assert same_bits(models[0], models[1])
    assert not same_bits(models[0], models[2])


def test_goes_on_after_the_walk_when_killed_in_it(tmp_path):
    class Killed(Observer):
        def iteration(self, index, iteration, iterations, loss):
            if iteration > 20:
                raise KeyboardInterrupt

    class Counting(Observer):
        def stage_started(self, index, total, name, resumed):
            started.extend([] if resumed else [name])

    started = []
    ann, images = toy(Residual), inputs(Residual, 32)
    pipeline = Best(4, held_out=0, distillation=SHORT)
    partial = PartialCheckpoint(tmp_path / "partial.ckpt", "key")
    with pytest.raises(KeyboardInterrupt):
        make_loop(ann, images, pipeline, Killed(), partial).run()
    loop = make_loop(ann, images, pipeline, Counting(), partial)
    records = loop.run()
    assert started == ["distillation"]
    whole = make_loop(ann, images, pipeline)
    assert [r["name"] for r in records] == [r["name"] for r in whole.run()]
    assert same_bits(loop.snn, whole.snn)


@pytest.mark.parametrize("neuron", [Signed(), Burst(2)], ids=str)
@pytest.mark.parametrize("cls", [Residual, MaxPooled])
def test_other_kinds_of_neurons_learn_too(cls, neuron):
    settings = Distillation(60, batch_size=16)
    pipeline = Best(4, held_out=0, neuron=neuron, weights=None, potential=None, distillation=settings)
    model = run(toy(cls), inputs(cls, 48), pipeline)
    numbers = model.records[-1]["steps"]["distillation"]
    assert numbers["kept"] == 1.0
    assert numbers["after"] < 0.8 * numbers["before"]
    lowest = min(train.min().item() for train in model.spikes(inputs(cls, 48)).values())
    assert (lowest < 0) == isinstance(neuron, Signed)


@register_neuron
@dataclass(frozen=True)
class Opaque(Neuron):
    """A kind that does not say that gradients pass."""

    def build(self):
        return IFNeuron()


def test_refusals():
    message = r"Opaque\(\) has no surrogate gradient, which distillation needs: use .* surrogate = True"
    with pytest.raises(SettingsError, match=message):
        Best(4, held_out=0, neuron=Opaque())
    assert Best(4, held_out=0, neuron=Opaque(), distillation=None).final_steps == ()
    with pytest.raises(SettingsError, match=r"distillation must be a step such as Distillation\(\)"):
        Best(4, held_out=0, distillation=3)
    with pytest.raises(SettingsError, match="weights must be a step such as Weights"):
        ACP(4, held_out=0, weights=Distillation())
    pipeline = Best(4, held_out=0, distillation=Distillation(images=100))
    with pytest.raises(
        CalibrationError, match=r"'distillation' wants 100 images.*distillation\.images to 32"
    ):
        calibrate(toy(Vector), [inputs(Vector, 32)], pipeline, progress=False)
    message = r"'distillation' has 16 images, fewer than its batch of 32: .*distillation\.batch_size to 16"
    with pytest.raises(CalibrationError, match=message):
        calibrate(toy(Vector), [inputs(Vector, 16)], Best(4, held_out=0), progress=False)
    few = Best(4, held_out=0, distillation=Distillation(images=8))
    with pytest.raises(CalibrationError, match=r"batch of 32: raise distillation\.images, or set"):
        calibrate(toy(Vector), [inputs(Vector, 16)], few, progress=False)


def test_images_of_different_sizes():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    ann = nn.Sequential(*layers).eval()
    sizes = [torch.randn(20, 3, size, size) for size in (8, 10)]
    settings = {"weights": None, "potential": None, "distillation": Distillation(40, batch_size=16)}
    pipeline = Best(4, **AS_GIVEN, **settings)
    model = calibrate(ann, sizes, pipeline, progress=False)
    numbers = model.records[-1]["steps"]["distillation"]
    assert numbers["kept"] == 1.0
    assert numbers["after"] < 0.8 * numbers["before"]
    with torch.no_grad():
        target, output = (torch.cat([net(x) for x in sizes]) for net in (ann, model))
    expected = ((output - target).square().sum() / target.square().sum()).item()
    assert numbers["after"] == pytest.approx(expected, rel=1e-4)


AUGMENTED = Best(
    4,
    held_out=0,
    weights=None,
    potential=None,
    augment=Augmentation(shift=0.25, crop=0.5, mix=0.5, colour=0.2, images=32),
    distillation=Distillation(30, batch_size=16),
)


def test_augmentation_gives_every_mini_batch_new_copies_and_what_the_ann_gives_for_them(monkeypatch):
    seen, look = [], NetworkLoop._images_and_targets

    def note(loop, rows, draws):
        images, targets = look(loop, rows, draws)
        if draws is not None:
            seen.append((images.clone(), targets))
        return images, targets

    monkeypatch.setattr(NetworkLoop, "_images_and_targets", note)
    ann, originals = toy(Residual), inputs(Residual, 20)
    model = calibrate(ann, [originals], AUGMENTED, progress=False)
    images = torch.cat([x for x, _ in seen])
    assert len(images) == 30 * 16
    # Two are alike by chance only.
    assert len(images.flatten(1).unique(dim=0)) > 0.99 * len(images)
    with torch.no_grad():
        torch.testing.assert_close(ann(images), torch.cat([t for _, (t,) in seen]), rtol=1e-4, atol=1e-5)
    numbers = model.records[-1]["steps"]["distillation"]
    assert numbers["kept"] == 1.0
    assert numbers["after"] < 0.8 * numbers["before"]
    seen.clear()
    calibrate(ann, [originals], dataclasses.replace(AUGMENTED, augment=None), progress=False)
    assert seen == []


def test_augmented_distillation_is_the_same_in_two_processes_and_with_images_on_disk():
    images = inputs(Residual, 19)
    # Of many steps rounding turns a spike at last, and what comes then differs.
    pipeline = dataclasses.replace(AUGMENTED, distillation=Distillation(10, batch_size=16))
    one = calibrate(toy(Residual), [images], pipeline, progress=False)
    first, second = in_two_threads(toy(Residual), [images], pipeline)
    assert same_bits(first, second)
    assert largest_difference(parameters(one), parameters(first)) < 1e-4
    assert one.records[-1]["steps"]["distillation"]["kept"] == 1.0
    on_disk = calibrate(
        toy(Residual), [images], dataclasses.replace(pipeline, cache_budget_gb=1e-9), progress=False
    )
    assert same_bits(one, on_disk)


def test_augmented_distillation_leaves_nothing_in_the_cache(monkeypatch):
    caches, close = [], Cache.close
    monkeypatch.setattr(Cache, "close", lambda cache: caches.append(cache.used) or close(cache))
    calibrate(toy(Residual), [inputs(Residual, 20)], AUGMENTED, progress=False)
    assert caches == [0]


def test_augmented_images_of_different_sizes():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    sizes = [torch.randn(9, 3, size, size) for size in (8, 10)]
    pipeline = dataclasses.replace(AUGMENTED, distillation=Distillation(100, batch_size=16))
    model = calibrate(nn.Sequential(*layers).eval(), sizes, pipeline, progress=False)
    numbers = model.records[-1]["steps"]["distillation"]
    assert numbers["kept"] == 1.0
    assert numbers["after"] < numbers["before"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "distillation.iterations must be a whole number of at least 1"),
        ({"batch_size": True}, "distillation.batch_size must be a whole number"),
        ({"step_size": -1}, "distillation.step_size must be a positive number"),
        ({"images": 0}, "distillation.images must be a whole number of at least 1"),
        ({"precision": "half"}, "distillation.precision must be one of float32, tf32, bf16, got 'half'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        Distillation(**settings)


@pytest.mark.parametrize(
    ("timesteps", "iterations"),
    [(1, 1600), (3, 533), (4, 400), (7, 400), (16, 400), (17, 376), (48, 133), (1000, 100)],
)
def test_very_few_time_steps_get_more_iterations(timesteps, iterations):
    assert Distillation().iterations_at(timesteps, timesteps) == iterations
    assert Distillation(iterations=5).iterations_at(timesteps, timesteps) == 5


@pytest.mark.parametrize(
    ("timesteps", "iterations"),
    [(1, 1600), (2, 1200), (8, 1200), (16, 1200), (17, 1129), (48, 400), (1000, 100)],
)
def test_depthwise_convolutions_get_more_iterations(timesteps, iterations):
    assert Distillation().iterations_at(timesteps, timesteps, depthwise=True) == iterations
    assert Distillation(iterations=5).iterations_at(timesteps, timesteps, depthwise=True) == 5


@pytest.mark.parametrize(("groups", "last"), [(1, "loss_1"), (4, "loss_2")])
def test_the_network_decides_how_many_iterations(groups, last, monkeypatch):
    def few(settings, timesteps, simulated_steps, depthwise=False):
        return settings.iterations or (3 if depthwise else 2)

    monkeypatch.setattr(Distillation, "iterations_at", few)
    ann = nn.Sequential(nn.Conv2d(4, 4, 3, groups=groups), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
    snn = calibrate(ann, [torch.rand(32, 4, 4, 4)], Best(8, **AS_GIVEN), progress=False)
    assert list(snn.records[-1]["steps"]["distillation"])[-1] == last


@pytest.mark.parametrize(("timesteps", "iterations"), [(1, 1600), (2, 1200), (32, 1200)])
def test_one_step_for_a_window_gets_more_iterations(timesteps, iterations):
    assert Distillation().iterations_at(timesteps, 1) == iterations
    assert Distillation(iterations=5).iterations_at(timesteps, 1) == 5


def test_precision_is_that_of_the_learning_alone(monkeypatch):
    seen, loss = set(), NetworkLoop._loss_and_gradients

    def note(loop, rows):
        seen.add(loop.context.snn.precision)
        return loss(loop, rows)

    monkeypatch.setattr(NetworkLoop, "_loss_and_gradients", note)
    pipeline = Best(4, held_out=0, distillation=Distillation(5, batch_size=16, precision="bf16"))
    model = run(toy(Residual), inputs(Residual, 16), pipeline)
    assert seen == {"bf16"}
    assert model.precision == "float32"


def test_muon_moves_what_leads_from_all_inputs_to_all_outputs_and_adam_the_rest(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        Muon, "step", lambda muon: shapes.extend(g["params"][0].shape for g in muon.param_groups)
    )
    ann, images = toy(Bottleneck), inputs(Bottleneck, 16)
    model = run(ann, images, Best(4, held_out=0, distillation=Distillation(1, batch_size=16)))
    weights = [p for p in model.network.parameters() if p.dim() > 1]
    depthwise = (12, 1, 3, 3)
    assert depthwise in {tuple(w.shape) for w in weights}
    assert sorted(shapes) == sorted(w.shape for w in weights if tuple(w.shape) != depthwise)
