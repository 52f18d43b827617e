"""A callback that converts and calibrates when it is told to: ANN and both SNNs tested by one Trainer."""

from dataclasses import replace

import pytest
import torch

from snn_lightning import CalibrationCallback, SpikingModel, calibrate, convert
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.errors import CalibrationError
from snn_lightning.graph import normalise
from tests.calibration.support import same_bits
from tests.callbacks.modules import QUICK, Classifier, Data, make_trainer, pairs
from tests.toys import PlainConv, inputs, toy


def images() -> list[torch.Tensor]:
    return [batch[0] for batch in pairs(16)]


def after_a_test(*callbacks, folder, module=None):
    """A module that a Trainer has tested, with that Trainer and the data."""
    trainer, module, data = make_trainer(folder, *callbacks), module or Classifier(), Data()
    trainer.test(module, datamodule=data, verbose=False)
    return trainer, module, data


def by_hand(**settings) -> CalibrationCallback:
    return CalibrationCallback(QUICK, automatic=False, **settings)


def test_one_trainer_tests_the_ann_and_both_snns(tmp_path, monkeypatch):
    conversions = []

    def counted(*args):
        conversions.append(args)
        return normalise(*args)

    monkeypatch.setattr("snn_lightning.calibration.api.normalise", counted)
    callback = by_hand()
    trainer, module, data = after_a_test(callback, folder=tmp_path)
    assert not isinstance(module.net, SpikingModel)
    callback.convert(trainer, module)
    callback.convert(trainer, module)
    uncalibrated = module.net
    assert uncalibrated.status == "uncalibrated"
    (before,) = trainer.test(module, datamodule=data, verbose=False)
    assert module.net is uncalibrated
    callback.calibrate(trainer, module)
    (after,) = trainer.test(module, datamodule=data, verbose=False)
    assert before.keys() == after.keys() == {"accuracy"}
    assert callback.records == module.net.records != []
    callback.convert(trainer, module)
    callback.calibrate(trainer, module)
    assert (len(conversions), data.asked) == (1, 1)
    assert same_bits(uncalibrated, convert(toy(PlainConv), images()[0], QUICK.timesteps))
    assert same_bits(module.net, calibrate(toy(PlainConv), images(), QUICK, progress=False))


def test_any_number_of_calibrations_from_one_starting_point(tmp_path):
    callback = by_hand()
    trainer, module, data = after_a_test(callback, folder=tmp_path)
    start = callback.starting_point(trainer, module)
    assert start.ann is module.net
    for timesteps in (3, QUICK.timesteps):
        pipeline = replace(QUICK, timesteps=timesteps)
        snn, left = start.calibrate(pipeline, Observer())
        assert left is None
        assert same_bits(snn, calibrate(toy(PlainConv), images(), pipeline, progress=False))
    assert same_bits(start.convert(QUICK), convert(toy(PlainConv), images()[0], QUICK.timesteps))
    assert (data.asked, start.count) == (1, sum(map(len, images())))
    assert not isinstance(module.net, SpikingModel)


def test_the_uncalibrated_snn_can_be_left_out(tmp_path):
    callback = by_hand()
    trainer, module, _ = after_a_test(callback, folder=tmp_path)
    callback.calibrate(trainer, module)
    assert same_bits(module.net, calibrate(toy(PlainConv), images(), QUICK, progress=False))


def test_fit_leaves_the_ann_alone(tmp_path, recwarn):
    callback, module = by_hand(), Classifier()
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(module, datamodule=Data())
    assert not isinstance(module.net, SpikingModel)
    assert not [w for w in recwarn if "nothing was calibrated" in str(w.message)]
    ann = toy(PlainConv)
    ann.load_state_dict(module.net.state_dict())
    callback.calibrate(trainer, module)
    assert same_bits(module.net, calibrate(ann.eval(), images(), QUICK, progress=False))


def test_another_ann_in_its_place_is_converted_anew(tmp_path):
    callback = by_hand()
    trainer, module, data = after_a_test(callback, folder=tmp_path)
    callback.convert(trainer, module)
    module.net = toy(PlainConv, seed=1)
    callback.calibrate(trainer, module)
    assert data.asked == 2
    assert same_bits(module.net, calibrate(toy(PlainConv, seed=1), images(), QUICK, progress=False))


class Named(Classifier):
    """Holds its network under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.same = self.net


def test_every_name_of_the_network_gets_the_calibrated_snn(tmp_path):
    callback = by_hand()
    trainer, module, _ = after_a_test(callback, folder=tmp_path, module=Named())
    for act, status in ((callback.convert, "uncalibrated"), (callback.calibrate, "calibrated")):
        act(trainer, module)
        assert module.net is module.same
        assert module.net.status == status


class Whole(Classifier):
    """Its forward does more than its network."""

    def forward(self, x):
        return 2 * self.net(x)


def test_a_whole_forward_is_converted_and_calibrated(tmp_path):
    callback = by_hand(network="")
    trainer, module, _ = after_a_test(callback, folder=tmp_path, module=Whole())
    x = inputs(PlainConv)
    for act in (callback.convert, callback.calibrate):
        act(trainer, module)
        assert torch.equal(module(x), module.snn(x))
    assert module.snn.status == "calibrated"


def test_it_takes_a_trainer_that_has_run(tmp_path):
    callback, module = by_hand(), Classifier()
    trainer = make_trainer(tmp_path, callback)
    for act in (callback.convert, callback.calibrate, callback.starting_point):
        with pytest.raises(CalibrationError, match=r"once it has run the module: call"):
            act(trainer, module)
