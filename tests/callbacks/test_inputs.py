"""What is calibrated on is what the network receives while the module's own code runs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from snn_lightning import LCP, CalibrationCallback, SpikingModel, calibrate
from snn_lightning.callbacks.inputs import InputStatistics, relative_error
from snn_lightning.errors import CalibrationError, ConversionError, SettingsError
from tests.calibration.support import same_bits
from tests.callbacks.modules import Classifier, make_trainer, pairs
from tests.toys import PlainConv, inputs, toy

PIPELINE = LCP(3)
IMAGES = inputs(PlainConv, 12)
LABELS = torch.arange(12) % 5
BOTH = [(IMAGES[:8], LABELS[:8]), (IMAGES[8:], LABELS[8:])]


def scaled(x: Tensor) -> Tensor:
    return (x - 0.3) / 0.4


def run(folder: Path, module: LightningModule, batches: Any, **settings: Any) -> Any:
    """Calibrate a module by testing it."""
    callback = CalibrationCallback(PIPELINE, batches, **settings)
    make_trainer(folder, callback).test(module, pairs(8), verbose=False)
    return module


def by_hand(received: list[Tensor], ann: nn.Module | None = None) -> SpikingModel:
    return calibrate(toy(PlainConv) if ann is None else ann, received, PIPELINE, progress=False)


class Bare(LightningModule):
    """A network, and a test that looks at nothing."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = toy(PlainConv) if net is None else net

    def test_step(self, batch, batch_idx):
        pass


class InForward(Classifier):
    def forward(self, x):
        return self.net(scaled(x))


class Dicts(Bare):
    """Only a step knows which part of its batches is the image."""

    def validation_step(self, batch):
        return self.net(scaled(batch["image"]))


class Second(Bare):
    """Labels come first."""

    def predict_step(self, batch, *rest):
        return self.net(scaled(batch[1]))


class Behind(Bare):
    """The network stands behind another layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.ModuleDict({"stem": nn.Conv2d(3, 3, 1), "body": self.net})
        del self.net

    def forward(self, x):
        return self.inner["body"](self.inner["stem"](x))


class Siamese(Bare):
    """Calls the network twice, once by the name of its method."""

    def forward(self, pair):
        return self.net(pair[:, 0]) - self.net.forward(pair[:, 1])


class Flattening(Bare):
    def __init__(self):
        torch.manual_seed(2)
        super().__init__(nn.Sequential(nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 5)))

    def forward(self, x):
        return self.net(x.view(len(x), -1))

    def test_step(self, batch, batch_idx):
        return self(batch[0])


class AnySize(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("batches", [BOTH, [x for x, _ in BOTH]], ids=["labelled", "unlabelled"])
def test_preprocessing_in_forward(batches, tmp_path):
    expected = by_hand([scaled(x) for x, _ in BOTH])
    assert same_bits(run(tmp_path, InForward(), batches).net, expected)


def test_batches_that_are_dicts(tmp_path):
    module = run(tmp_path, Dicts(), [{"image": IMAGES, "label": LABELS}])
    assert same_bits(module.net, by_hand([scaled(IMAGES)]))


def test_tuples_whose_input_is_not_first(tmp_path):
    assert same_bits(run(tmp_path, Second(), [(LABELS, IMAGES)]).net, by_hand([scaled(IMAGES)]))


def test_a_network_behind_other_layers(tmp_path):
    with torch.no_grad():
        received = Behind().inner["stem"](IMAGES)
    with warnings.catch_warnings():
        # That a named part is one is meant.
        warnings.filterwarnings("error", "Only")
        module = run(tmp_path, Behind(), [IMAGES], network="inner.body")
    assert same_bits(module.inner["body"], by_hand([received]))
    assert isinstance(module.inner["stem"], nn.Conv2d)


def test_all_calls_of_a_step_count(tmp_path):
    pairs = torch.stack([IMAGES, IMAGES.flip(0) * 0.5], 1)
    halves = (pairs[:6], pairs[6:])
    module = run(tmp_path, Siamese(), halves)
    assert same_bits(module.net, by_hand([half[:, i] for half in halves for i in (0, 1)]))


def test_a_view_in_forward(tmp_path):
    module = run(tmp_path, Flattening(), [(IMAGES, LABELS)])
    assert same_bits(module.net, by_hand([IMAGES.flatten(1)], Flattening().net))


def test_inputs_of_several_sizes(tmp_path):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(3, 3, 8 + 2 * i, 8, generator=generator) for i in range(3)]
    module = run(tmp_path, Classifier(AnySize()), batches)
    assert same_bits(module.net, by_hand(batches, AnySize()))


def test_under_the_trainers_precision(tmp_path):
    class Mixed(Bare):
        def forward(self, x):
            self.halved = nn.functional.conv2d(x, torch.eye(3).view(3, 3, 1, 1))
            return self.net(self.halved)

    callback = CalibrationCallback(PIPELINE, [IMAGES])
    module = Mixed()
    make_trainer(tmp_path, callback, precision="bf16-mixed").test(module, pairs(8), verbose=False)
    assert not hasattr(module, "halved")
    assert same_bits(module.net, by_hand([IMAGES.bfloat16().float()]))


def test_inputs_says_what_the_network_receives(tmp_path):
    batches = [{"anything": IMAGES}]
    module = run(tmp_path, InForward(), batches, inputs=lambda batch: batch["anything"] * 0.5)
    assert same_bits(module.net, by_hand([IMAGES * 0.5]))
    with pytest.raises(SettingsError, match="inputs must be a function of a calibration batch, got 'image'"):
        CalibrationCallback(PIPELINE, inputs="image")


def test_nothing_reaches_the_network(tmp_path):
    message = (
        r"(?s)What the network 'net' receives can't be found out: no code of Classifier calls it on a "
        r"calibration batch \(dict\).*validation_step fails with KeyError.*forward fails with .*inputs=func"
    )
    module = Classifier()
    with pytest.raises(CalibrationError, match=message):
        run(tmp_path, module, [{"image": IMAGES}])
    assert isinstance(module.net, PlainConv)


@pytest.mark.parametrize(
    ("call", "kinds"),
    [(lambda net, x: net(x, None), "Tensor, NoneType"), (lambda net, x: net(image=x), "image=Tensor")],
    ids=["two", "keyword"],
)
def test_a_network_that_is_called_in_another_way(call, kinds, tmp_path):
    class Other(Bare):
        def forward(self, x):
            return call(self.net, x)

    message = rf"network is called with \({kinds}\), and a spiking network takes one tensor by position: wrap"
    with pytest.raises(CalibrationError, match=message):
        run(tmp_path, Other(), [IMAGES], network="net")


@pytest.mark.parametrize("batches", [[], [IMAGES[:0]]], ids=["no batch", "no image"])
def test_no_images(batches, tmp_path):
    with pytest.raises(CalibrationError, match="The calibration set is empty: give a loader with at least"):
        run(tmp_path, Classifier(), batches)
    with pytest.raises(
        CalibrationError, match=r"loader is a tensor: pass a loader of batches, or \[tensor\]"
    ):
        run(tmp_path, Classifier(), IMAGES)


class Busy(Bare):
    """Logs, counts and collects in its validation."""

    def __init__(self):
        super().__init__()
        self.metrics = MetricCollection([MulticlassAccuracy(5), MulticlassConfusionMatrix(5)])
        self.outputs, self.steps, self.sums = [], 0, {"loss": torch.zeros(())}
        self.register_buffer("seen", torch.zeros(()))
        self.noise = nn.Dropout(0.5)

    def validation_step(self, batch, batch_idx):
        assert not self.trainer.training
        assert not torch.is_grad_enabled()
        x, y = batch
        logits = self.net(self.noise(x))
        self.log_dict(self.metrics(logits, y))
        self.log("validation", 1.0)
        self.logger.experiment.add_image("x", x)
        self.logger.log_metrics({"validation": 1.0})
        self.outputs.append(logits)
        self.steps += 1
        self.sums["loss"] += 1
        self.seen += 1


class Noting(DummyLogger):
    """Notes the names of what is logged."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def log_metrics(self, metrics, step=None):
        self.names |= {name.split("/")[0] for name in metrics}


def test_nothing_is_logged_and_no_state_changes(tmp_path):
    module, logger = Busy().train(), Noting()
    outputs, sums = module.outputs, module.sums
    callback = CalibrationCallback(PIPELINE, BOTH)
    make_trainer(tmp_path, callback, logger=logger).test(module, pairs(8), verbose=False)
    # The dropout was off.
    assert same_bits(module.net, by_hand([x for x, _ in BOTH]))
    assert logger.names == {"calibration"}
    assert module.outputs is outputs == []
    assert module.sums is sums == {"loss": torch.zeros(())}
    assert (module.steps, module.seen.item()) == (0, 0)
    assert all(metric.update_count == 0 for metric in module.metrics.values())
    assert module.metrics["MulticlassConfusionMatrix"].confmat.sum() == 0
    assert module.noise.training
    assert "log" not in vars(module)


class Switched(nn.Module):
    """Doubles its output where it is told to."""

    def __init__(self):
        super().__init__()
        self.inner, self.double = toy(PlainConv), False

    def forward(self, x):
        return self.inner(x) * 2 if self.double else self.inner(x)


def test_code_that_changes_the_networks_settings(tmp_path):
    class Telling(Bare):
        def forward(self, x):
            self.net.double = True
            y = self.net(x)
            self.net.double = False
            return y

    message = r"'net' gives another output inside the module than by itself .*relative error 0\.5\)"
    with pytest.warns(UserWarning, match=message):
        run(tmp_path, Telling(Switched()), [IMAGES])


def test_code_that_treats_the_snn_in_another_way(tmp_path):
    class Choosy(Bare):
        def forward(self, x):
            return self.net(x if isinstance(self.net, PlainConv) else x / 2)

    message = r"'net' receives something else than the ANN did \(relative error 0\.5\)"
    with pytest.warns(UserWarning, match=message):
        run(tmp_path, Choosy(), [IMAGES])


def test_a_network_that_the_module_holds_twice(tmp_path):
    class Twice(Bare):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([self.net])

        def forward(self, x):
            return self.parts[0](x)

    module = run(tmp_path, Twice(), [IMAGES])
    assert module.parts[0] is module.net
    assert torch.equal(module(IMAGES), by_hand([IMAGES])(IMAGES))


def test_code_that_gets_at_the_ann_another_way(tmp_path):
    class Sly(Bare):
        def __init__(self):
            super().__init__()
            self.hidden = (self.net,)

        def forward(self, x):
            return self.hidden[0](x)

    module = Sly()
    with pytest.raises(
        CalibrationError, match="Sly does not reach the SNN that has replaced the network 'net'"
    ):
        run(tmp_path, module, [IMAGES])
    assert module.net is module.hidden[0]


def test_images_of_another_range_in_the_test(tmp_path):
    module = Classifier()
    callback = CalibrationCallback(PIPELINE, [IMAGES])
    trainer = make_trainer(tmp_path, callback)
    with pytest.warns(UserWarning, match=r"The SNN receives numbers of .* prepared in different ways"):
        trainer.test(module, DataLoader([(255 * x, 1) for x in IMAGES]), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The SNN receives")
        trainer.test(module, pairs(8), verbose=False)
    assert module.net.listener is None


def test_hooks_in_front_of_the_device(tmp_path):
    class Before(Bare):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            return scaled(batch[0]), batch[1]

        def test_step(self, batch, batch_idx):
            return self.net(batch[0])

    assert same_bits(run(tmp_path, Before(), BOTH).net, by_hand([scaled(x) for x, _ in BOTH]))


def test_the_running_step_comes_first(tmp_path):
    class Steps(Bare):
        def forward(self, x):
            return self.net(x)

        def validation_step(self, batch, batch_idx):
            return self(batch * 2)

        def test_step(self, batch, batch_idx):
            return self(scaled(batch[0] if isinstance(batch, list) else batch))

    assert same_bits(run(tmp_path, Steps(), [IMAGES]).net, by_hand([scaled(IMAGES)]))


def test_a_step_that_would_take_images_for_parts_of_a_batch(tmp_path):
    # Three images of three channels: batch[0] is one image, which a convolution would take for a batch.
    batches = [IMAGES[i : i + 3] for i in range(0, 12, 3)]
    assert same_bits(run(tmp_path, Classifier(), batches).net, by_hand(list(batches)))


def test_a_step_that_changes_its_batch(tmp_path):
    class Changing(Bare):
        def test_step(self, batch, batch_idx):
            return self.net(batch.pop("image").mul_(2)) if isinstance(batch, dict) else self.net(batch[0])

    module = run(tmp_path, Changing(), [{"image": IMAGES.clone()}])
    assert same_bits(module.net, by_hand([IMAGES * 2]))


def test_code_that_calls_a_part_of_the_network(tmp_path):
    class Early(Bare):
        def test_step(self, batch, batch_idx):
            return self.net.head.bias + self.net(batch[0])

    message = r"fails with the SNN in place of the network 'net' \(AttributeError: .*call that as a whole"
    module = Early()
    with pytest.raises(CalibrationError, match=message):
        run(tmp_path, module, BOTH)
    assert isinstance(module.net, PlainConv)


def test_an_evaluation_without_the_snn_says_so(tmp_path):
    class Average(Bare):
        def __init__(self):
            super().__init__()
            self.average = toy(PlainConv)

        def validation_step(self, batch, batch_idx):
            return self.net(batch[0])

        def test_step(self, batch, batch_idx):
            return self.average(batch[0])

    module, message = (
        Average(),
        "The SNN was not called: what was evaluated of Average is not the spiking netw",
    )
    callback = CalibrationCallback(PIPELINE, BOTH)
    with pytest.warns(UserWarning, match=message):
        make_trainer(tmp_path, callback).test(module, pairs(8), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The SNN was not called")
        make_trainer(tmp_path, callback).validate(module, pairs(8), verbose=False)
    given = CalibrationCallback(PIPELINE, BOTH, inputs=lambda batch: batch[0])
    with pytest.warns(UserWarning, match=message):
        make_trainer(tmp_path, given).test(Average(), pairs(8), verbose=False)


def test_only_a_module_without_steps_may_mean_the_first_part(tmp_path):
    class Helper(LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = toy(PlainConv)

        def forward(self, x):
            return self.layers(x)

        def test_step(self, batch, batch_idx):
            return self.layers(batch[1])

    with pytest.raises(CalibrationError, match=r"What Helper\.forward receives can't be found out"):
        run(tmp_path, Helper(), BOTH)


def test_sizes_that_became_constants(tmp_path):
    class Fixed(AnySize):
        def forward(self, x):
            f = torch.relu(self.conv(x))
            return self.head(f.sum((2, 3)) / (f.shape[2] * f.shape[3]))

    class Sized(Bare):
        def forward(self, x):
            return self.net(x)

    message = r"converted for inputs of \(3, 8, 8\), and computes something else on those of \(3, 12, 8\)"
    with pytest.raises(ConversionError, match=message):
        run(tmp_path, Sized(Fixed()), [IMAGES, torch.rand(2, 3, 12, 8)])


def test_metrics_in_a_dict_and_parameters_stay_as_they_were(tmp_path):
    class Keeping(Bare):
        def __init__(self):
            super().__init__()
            self.metrics = {"accuracy": MulticlassAccuracy(5, average="micro")}
            self.average = nn.Parameter(torch.zeros(2), requires_grad=False)

        def validation_step(self, batch, batch_idx):
            self.metrics["accuracy"].update(self.net(batch[0]), batch[1])
            self.average += 1
            self.made = nn.Linear(1, 1)

    module = run(tmp_path, Keeping(), BOTH)
    assert module.metrics["accuracy"].update_count == 0
    assert module.average.tolist() == [0, 0]
    assert "made" not in module._modules


def test_formulas():
    statistics = InputStatistics.of([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [6.0]])])
    assert (statistics.mean, statistics.deviation) == (3.0, pytest.approx(3.5**0.5))
    assert relative_error([torch.tensor([3.0, 0.0])], [torch.tensor([3.0, 4.0])]) == pytest.approx(0.8)
    assert relative_error([torch.ones(2)], [torch.ones(3)]) == float("inf")
