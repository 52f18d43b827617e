"""Checkpoints written by the Trainer after calibration describe themselves."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from snn_lightning import LCP, CalibrationCallback, SpikingModel, load_converted
from snn_lightning.errors import CheckpointError
from tests.callbacks.modules import QUICK, Classifier, Data, Reloadable, make_trainer
from tests.toys import PlainConv, inputs

IMAGES = inputs(PlainConv, 6, seed=5)


@pytest.mark.parametrize("cls", [Classifier, Reloadable])
@pytest.mark.parametrize("verb", ["fit", "test"])
def test_the_trainers_checkpoint(cls, verb, tmp_path):
    module, path = cls(), tmp_path / "snn.ckpt"
    trainer = make_trainer(tmp_path, CalibrationCallback(QUICK))
    getattr(trainer, verb)(module, datamodule=Data())
    trainer.save_checkpoint(path)
    contents = torch.load(path, weights_only=True)
    assert contents["snn_lightning"]["attribute"] == "net"
    assert contents["snn_lightning"]["spec"]["status"] == "calibrated"
    loaded = load_converted(path)
    assert loaded.status == "calibrated"
    assert loaded.timesteps == 3
    assert torch.equal(loaded(IMAGES), module.net(IMAGES))


def test_load_from_checkpoint(tmp_path):
    module, path = Reloadable(), tmp_path / "snn.ckpt"
    trainer = make_trainer(tmp_path, CalibrationCallback(QUICK))
    trainer.fit(module, datamodule=Data())
    trainer.save_checkpoint(path)
    loaded = Reloadable.load_from_checkpoint(path).eval()
    assert isinstance(loaded.net, SpikingModel)
    assert torch.equal(loaded(IMAGES), module.net(IMAGES))
    before = trainer.test(module, datamodule=Data(), verbose=False)
    # What is loaded is calibrated: another Trainer with the callback only tests it.
    data = Data()
    assert (
        make_trainer(tmp_path, CalibrationCallback(QUICK)).test(loaded, datamodule=data, verbose=False)
        == before
    )
    assert data.asked == 0
    contents = torch.load(path, weights_only=True)
    next(v for key, v in contents["state_dict"].items() if key.endswith("v_th"))[0] *= 1.001
    torch.save(contents, path)
    for load in (Reloadable.load_from_checkpoint, lambda path: trainer.test(loaded, Data(), ckpt_path=path)):
        with pytest.raises(CheckpointError, match="differ from those that were saved"):
            load(path)


def test_an_ann_checkpoint_still_loads_into_the_module(tmp_path):
    module, path = Reloadable(), tmp_path / "ann.ckpt"
    trainer = make_trainer(tmp_path)
    trainer.fit(module, datamodule=Data())
    trainer.save_checkpoint(path)
    assert "snn_lightning" not in torch.load(path, weights_only=True)
    loaded = Reloadable.load_from_checkpoint(path).eval()
    assert torch.equal(loaded(IMAGES), module.eval()(IMAGES))


def test_a_checkpoint_by_lightnings_own_callback(tmp_path):
    """`save_last` may write when the training ends, after the calibration."""
    module, last = Classifier(), ModelCheckpoint(tmp_path / "kept", save_last=True, every_n_epochs=5)
    trainer = make_trainer(tmp_path, last, CalibrationCallback(LCP(3)), enable_checkpointing=True)
    trainer.fit(module, datamodule=Data())
    (path,) = (tmp_path / "kept").glob("last.ckpt")
    contents = torch.load(path, weights_only=True)
    assert "digest" in contents["snn_lightning"]
    assert any("units." in name for name in contents["state_dict"])
    assert torch.equal(load_converted(path)(IMAGES), module.net(IMAGES))
