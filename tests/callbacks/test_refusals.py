"""What can't work is refused before anything is trained."""

import pickle
import runpy
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer, callbacks
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy

from snn_lightning import LCP, CalibrationCallback, convert
from snn_lightning.callbacks import averaging
from snn_lightning.errors import CalibrationError, SettingsError
from tests.callbacks.modules import Classifier, Data, make_trainer, pairs
from tests.toys import PlainConv, inputs, toy
from tests.versions import needs_averaging


def stub(**settings):
    """Something like a Trainer, for strategies that this machine can't start."""
    return SimpleNamespace(
        **{"strategy": SingleDeviceStrategy("cpu"), "precision": "32-true", "callbacks": [], **settings}
    )


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_processes_that_do_not_live_on(strategy, tmp_path):
    callback = CalibrationCallback(LCP(3))
    trainer = make_trainer(tmp_path, callback, strategy=strategy, devices=2)
    with pytest.raises(
        CalibrationError, match=r"spawn, fork and notebook launchers lose .* Use strategy='ddp'"
    ):
        callback.setup(trainer, Classifier(), "fit")


def test_sharded_parameters():
    with pytest.raises(
        CalibrationError, match="whole parameters on every process, which FSDPStrategy shards"
    ):
        CalibrationCallback(LCP(3)).setup(stub(strategy=FSDPStrategy()), Classifier(), "fit")


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_half_precision(precision, tmp_path):
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)), precision=precision)
    module = Classifier()
    message = f"precision='{precision}' would round thresholds and potentials. Use '32-true'"
    with pytest.raises(CalibrationError, match=message):
        trainer.fit(module, datamodule=Data())
    assert trainer.global_step == 0


@pytest.mark.parametrize("settings", [{}, {"strategy": DDPStrategy()}, {"precision": "bf16-mixed"}])
def test_what_works_is_let_through(settings):
    CalibrationCallback(LCP(3), []).setup(stub(**settings), Classifier(), "fit")


@needs_averaging
def test_averaging_after_calibration(tmp_path):
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)), averaging.EMAWeightAveraging())
    with pytest.raises(CalibrationError, match=r"WeightAveraging callback is listed after .* List it before"):
        trainer.fit(Classifier(), datamodule=Data())
    assert trainer.global_step == 0


def test_averaging_with_a_lightning_that_has_none(monkeypatch):
    monkeypatch.delattr(callbacks, "WeightAveraging", raising=False)
    found = runpy.run_path(averaging.__file__)
    with pytest.raises(SettingsError, match=r"needs Lightning 2.6, .* 'lightning>=2.6', or leave out callb"):
        found["EMAWeightAveraging"](decay=0.9)
    assert not isinstance(CalibrationCallback(LCP(3)), found["WeightAveraging"])


def test_stochastic_averaging_after_calibration(tmp_path):
    average = StochasticWeightAveraging(swa_lrs=0.05)
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)), average, max_epochs=2)
    with pytest.raises(
        CalibrationError, match=r"StochasticWeightAveraging callback is listed after .* before"
    ):
        trainer.fit(Classifier(), datamodule=Data())


def test_a_training_without_calibration_images(tmp_path):
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    with pytest.raises(
        CalibrationError, match="There are no calibration images: pass calibration_dataloader"
    ):
        trainer.fit(Classifier(), pairs())
    assert trainer.global_step == 0


class Two(Classifier):
    """Has another network besides."""

    def __init__(self) -> None:
        super().__init__()
        self.other = toy(PlainConv)


def test_a_second_network(tmp_path):
    module = Two()
    make_trainer(tmp_path, CalibrationCallback(LCP(3), network="net")).test(module, datamodule=Data())
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), network="other"))
    with pytest.raises(
        CalibrationError, match=r"in 'net' already, and only one can be .*'other' would stay an A"
    ):
        trainer.test(module, datamodule=Data(), verbose=False)


def test_an_uncalibrated_snn_in_the_networks_place(tmp_path):
    module = Classifier(convert(toy(PlainConv), inputs(PlainConv, 4), 3))
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    message = "'net' of Classifier holds a spiking network that is not calibrated.* starts from the ANN"
    with pytest.raises(SettingsError, match=message):
        trainer.test(module, datamodule=Data(), verbose=False)


def test_after_an_error_the_module_is_as_it_was(tmp_path):
    module = Two()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), []))
    with pytest.raises(CalibrationError, match="The calibration set is empty"):
        trainer.test(module, datamodule=Data(), verbose=False)
    assert pickle.loads(pickle.dumps(module)).net.head.weight.equal(module.net.head.weight)


@pytest.mark.parametrize("pipeline", ["lcp", None, LCP])
def test_something_else_than_a_pipeline(pipeline):
    with pytest.raises(SettingsError, match="pipeline must be Baseline, LCP, ACP or another Pipeline, got"):
        CalibrationCallback(pipeline)


def test_unknown_weights():
    with pytest.raises(SettingsError, match="weights must be 'last' or 'best', got 'first'"):
        CalibrationCallback(LCP(3), weights="first")


def test_the_callback_is_found_at_the_top():
    import snn_lightning

    assert snn_lightning.CalibrationCallback is CalibrationCallback
    assert isinstance(CalibrationCallback(LCP(3)), Trainer.__mro__[0]) is False
    with pytest.raises(AttributeError, match="has no attribute 'Callback'"):
        _ = snn_lightning.Callback
