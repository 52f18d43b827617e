"""Checkpoints written by the Trainer after calibration describe themselves."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from snn_lightning import (
    LCP,
    CalibrationCallback,
    SpikingCheckpoint,
    SpikingModel,
    load_converted,
    load_from_checkpoint,
)
from snn_lightning.errors import CheckpointError
from snn_lightning.spiking.checkpoint import rebuild_spiking_model
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


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Classifier]:
    """The checkpoint of a calibrated module whose class knows nothing of spiking networks, and the module."""
    folder = tmp_path_factory.mktemp("saved")
    module, path = Classifier(), folder / "snn.ckpt"
    trainer = make_trainer(folder, CalibrationCallback(QUICK))
    trainer.test(module, datamodule=Data(), verbose=False)
    trainer.save_checkpoint(path)
    return path, module


@pytest.mark.parametrize("cls", [Classifier, Reloadable])
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_a_fresh_module_takes_the_snn_of_a_checkpoint(cls, verb, saved, tmp_path):
    path, module = saved
    fresh, data = cls(), Data()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(7)))
    getattr(trainer, verb)(fresh, datamodule=data, ckpt_path=path)
    assert data.asked == 0
    assert fresh.net.status == "calibrated"
    assert torch.equal(fresh(IMAGES), module(IMAGES))
    # Another Trainer, or the same, tests it as any other module.
    assert "on_load_checkpoint" not in vars(fresh)


def test_load_from_checkpoint_into_a_class_that_knows_nothing(saved):
    path, module = saved
    loaded = load_from_checkpoint(Classifier, path).eval()
    assert type(loaded) is Classifier
    assert torch.equal(loaded(IMAGES), module(IMAGES))


def test_the_users_own_hooks_run_too(saved, tmp_path):
    class Own(Classifier):
        def on_save_checkpoint(self, checkpoint):
            super().on_save_checkpoint(checkpoint)
            checkpoint["mine"] = 3

        def on_load_checkpoint(self, checkpoint):
            self.mine = checkpoint.get("mine")
            super().on_load_checkpoint(checkpoint)

    class First(SpikingCheckpoint, Own):
        """With the mixin in front."""

    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    trainer.test(Own(), datamodule=Data(), verbose=False)
    trainer.save_checkpoint(tmp_path / "snn.ckpt")
    for cls in (Own, First):
        fresh = cls()
        make_trainer(tmp_path, CalibrationCallback(LCP(3))).test(
            fresh, datamodule=Data(), ckpt_path=tmp_path / "snn.ckpt", verbose=False
        )
        assert fresh.mine == load_from_checkpoint(cls, tmp_path / "snn.ckpt").mine == 3


class Other(Classifier):
    """Its network lies elsewhere, and is another."""

    def __init__(self):
        super().__init__()
        self.deep = torch.nn.ModuleDict({"body": torch.nn.Sequential(torch.nn.Linear(3, 2))})
        del self.net


def test_a_state_dict_that_leaves_the_snn_out(tmp_path):
    class Filtered(Classifier):
        def state_dict(self, *args, **kwargs):
            state = super().state_dict(*args, **kwargs)
            return {key: value for key, value in state.items() if "v_th" not in key}

    module = Filtered()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    trainer.test(module, datamodule=Data(), verbose=False)
    with pytest.raises(
        CheckpointError, match=r"would lack 2 tensors .* let state_dict\(\) of Filtered keep what"
    ):
        trainer.save_checkpoint(tmp_path / "snn.ckpt")


def test_a_flipped_bit_beside_the_snn(tmp_path):
    class Head(Classifier):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(5, 5)

    module, path = Head(), tmp_path / "snn.ckpt"
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), network="net"))
    trainer.test(module, datamodule=Data(), verbose=False)
    trainer.save_checkpoint(path)
    content = bytearray(path.read_bytes())
    content[content.find(module.head.weight.detach().numpy().tobytes()) + 3] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"snn\.ckpt' is damaged .*Take another copy"):
        trainer.test(Head(), datamodule=Data(), ckpt_path=path, verbose=False)


class Wider(Classifier):
    """Has a layer more."""

    def __init__(self):
        super().__init__()
        self.more = torch.nn.Linear(3, 2)


def test_checkpoints_that_do_not_fit(saved, tmp_path):
    path, _ = saved
    with pytest.raises(
        CheckpointError, match=r"network in 'net', and Other has no such place .*load it into"
    ):
        load_from_checkpoint(Other, path)
    with pytest.raises(
        CheckpointError, match=r"(?s)does not fit Wider: .*Load it into the class it was saved"
    ):
        load_from_checkpoint(Wider, path)
    trainer = make_trainer(tmp_path)
    trainer.test(Classifier(), datamodule=Data(), verbose=False)
    trainer.save_checkpoint(tmp_path / "ann.ckpt")
    with pytest.raises(CheckpointError, match=r"ann\.ckpt' holds no spiking network: .*of an ANN"):
        load_from_checkpoint(Classifier, tmp_path / "ann.ckpt")
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_from_checkpoint(Classifier, tmp_path / "missing.ckpt")
    content = torch.load(path, weights_only=True)
    content["snn_lightning"]["attribute"] = "deep.er.net"
    content["state_dict"] = {f"deep.er.{key}": value for key, value in content["state_dict"].items()}
    del content["snn_lightning"]["digest"]
    with pytest.raises(
        CheckpointError, match=r"spiking network in 'deep\.er\.net', and Other has no such place"
    ):
        rebuild_spiking_model(Other(), content)


def test_an_ann_checkpoint_still_loads_into_the_module(tmp_path):
    module, path = Reloadable(), tmp_path / "ann.ckpt"
    trainer = make_trainer(tmp_path)
    trainer.fit(module, datamodule=Data())
    trainer.save_checkpoint(path)
    assert "snn_lightning" not in torch.load(path, weights_only=True)
    loaded = Reloadable.load_from_checkpoint(path).eval()
    assert torch.equal(loaded(IMAGES), module.eval()(IMAGES))


def test_a_checkpoint_by_lightnings_own_callback(tmp_path):
    """`save_last` writes when the training ends, after the calibration; Lightning 2.5.0 writes before it."""
    module, last = Classifier(), ModelCheckpoint(tmp_path / "kept", save_last=True, every_n_epochs=5)
    trainer = make_trainer(tmp_path, last, CalibrationCallback(LCP(3)), enable_checkpointing=True)
    trainer.fit(module, datamodule=Data())
    (path,) = (tmp_path / "kept").glob("last.ckpt")
    contents = torch.load(path, weights_only=True)
    at_the_end = "on_train_end" in vars(ModelCheckpoint)
    assert any("units." in name for name in contents["state_dict"]) == at_the_end
    assert ("snn_lightning" in contents) == at_the_end
    if at_the_end:
        assert "digest" in contents["snn_lightning"]
        assert torch.equal(load_converted(path)(IMAGES), module.net(IMAGES))
