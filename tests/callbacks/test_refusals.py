"""What can't work is refused before anything is trained."""

import runpy
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer, callbacks
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy

from snn_lightning import LCP, CalibrationCallback
from snn_lightning.callbacks import averaging
from snn_lightning.errors import CalibrationError, SettingsError
from tests.callbacks.modules import Classifier, Data, make_trainer
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
