"""What is calibrated on is what the network receives while the module's own code runs."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from snn_lightning import CalibrationCallback
from snn_lightning.calibration.recording import relative_error
from snn_lightning.errors import CalibrationError, ConversionError, SettingsError
from tests.calibration.support import same_bits
from tests.callbacks.modules import Classifier, make_trainer, pairs
from tests.callbacks.recorded import BOTH, IMAGES, LABELS, PIPELINE, Bare, by_hand, run, scaled
from tests.toys import PlainConv, toy


class InForward(Classifier):
    def forward(self, x):
        return self.net(scaled(x))


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


@pytest.mark.parametrize("batches", [[], [IMAGES[:0]]], ids=["no batch", "no image"])
def test_no_images(batches, tmp_path):
    with pytest.raises(CalibrationError, match="The calibration set is empty: give a loader with at least"):
        run(tmp_path, Classifier(), batches)
    with pytest.raises(
        CalibrationError, match=r"loader is a tensor: pass a loader of batches, or \[tensor\]"
    ):
        run(tmp_path, Classifier(), IMAGES)


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


def test_code_that_calls_a_part_of_the_network(tmp_path):
    class Early(Bare):
        def test_step(self, batch, batch_idx):
            return self.net.head.bias + self.net(batch[0])

    message = r"fails with the SNN in place of the network 'net' \(AttributeError: .*call that as a whole"
    module = Early()
    with pytest.raises(CalibrationError, match=message):
        run(tmp_path, module, BOTH)
    assert isinstance(module.net, PlainConv)


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


def test_relative_error():
    assert relative_error([torch.tensor([3.0, 0.0])], [torch.tensor([3.0, 4.0])]) == pytest.approx(0.8)
    assert relative_error([torch.ones(2)], [torch.ones(3)]) == float("inf")
