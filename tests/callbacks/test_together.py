"""Together with what else a Trainer can do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from torch import nn

from snn_lightning import (
    ACP,
    LCP,
    MMSE,
    CalibrationCallback,
    LeastSquares,
    Signed,
    SpikingModel,
    calibrate,
    load_converted,
    save_converted,
)
from snn_lightning.errors import CalibrationError, SettingsError
from tests.calibration.support import same_bits
from tests.callbacks.modules import QUICK, Classifier, Data, make_trainer, pairs
from tests.toys import PlainConv, toy

IMAGES = [batch[0] for batch in pairs(16)]


class Remember(Classifier):
    """Keeps a copy of the ANN after each batch of the training."""

    def on_train_batch_end(self, *args):
        self.copies = [toy(PlainConv)]
        self.copies[0].load_state_dict(self.net.state_dict())


SETTINGS = {
    "fast_dev_run": {"fast_dev_run": True},
    "limits": {
        "limit_train_batches": 1,
        "limit_val_batches": 1,
        "limit_test_batches": 1,
        "limit_predict_batches": 1,
    },
    "gradient clipping": {"gradient_clip_val": 0.01},
    "accumulation": {"accumulate_grad_batches": 2},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_all_calibration_images_are_used(settings, tmp_path):
    module = Remember()
    trainer = make_trainer(tmp_path, CalibrationCallback(QUICK), **settings)
    trainer.fit(module, datamodule=Data())
    assert same_bits(module.net, calibrate(module.copies[0], IMAGES, QUICK, progress=False))
    trainer.test(module, datamodule=Data(), verbose=False)


def test_a_training_that_stops_early(tmp_path):
    class Same(Remember):
        def on_validation_epoch_end(self):
            self.log("same", 1.0)

    module = Same()
    stop = EarlyStopping("same", patience=1)
    make_trainer(tmp_path, stop, CalibrationCallback(QUICK), max_epochs=9).fit(module, datamodule=Data())
    assert stop.stopped_epoch == 1
    assert same_bits(module.net, calibrate(module.copies[0], IMAGES, QUICK, progress=False))


def test_a_second_fit_is_refused_until_the_snn_is_made_trainable(tmp_path):
    module = Classifier()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    trainer.fit(module, datamodule=Data())
    trainer.save_checkpoint(tmp_path / "snn.ckpt")
    message = (
        r"'net' holds a calibrated SNN, which is frozen: .*module\.net\.requires_grad_\(True\) before fit"
    )
    for again in (trainer, make_trainer(tmp_path, CalibrationCallback(LCP(3)))):
        with pytest.raises(CalibrationError, match=message):
            again.fit(module, datamodule=Data())
    with pytest.raises(CalibrationError, match=message):
        make_trainer(tmp_path, CalibrationCallback(LCP(3))).fit(
            Classifier(), datamodule=Data(), ckpt_path=tmp_path / "snn.ckpt"
        )
    snn = module.net.requires_grad_(True)
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    make_trainer(tmp_path, CalibrationCallback(LCP(3))).fit(module, datamodule=Data())
    assert module.net is snn
    assert snn.status == "calibrated"
    assert any(not torch.equal(value, before[name]) for name, value in snn.state_dict().items())


def test_a_fit_of_what_stands_behind_an_snn(tmp_path):
    class Head(Classifier):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(5, 5)

        def forward(self, x):
            return self.head(self.net(x))

    module = Head()
    module.net = calibrate(module.net, IMAGES, LCP(3), progress=False)
    before = module.head.weight.detach().clone()
    make_trainer(tmp_path, CalibrationCallback(LCP(3))).fit(module, datamodule=Data())
    assert not torch.equal(module.head.weight, before)


def test_a_network_that_is_built_in_configure_model(tmp_path):
    class Late(Classifier):
        def __init__(self):
            super().__init__()
            del self.net

        def configure_model(self):
            if not hasattr(self, "net"):
                self.net = toy(PlainConv)

    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), network="nett"))
    with pytest.raises(SettingsError, match="Late has no network in 'nett'; its submodules are 'net'"):
        trainer.fit(Late(), datamodule=Data())
    assert trainer.global_step == 0
    module = Late()
    make_trainer(tmp_path, CalibrationCallback(LCP(3), network="net")).test(
        module, datamodule=Data(), verbose=False
    )
    assert same_bits(module.net, calibrate(toy(PlainConv), IMAGES, LCP(3), progress=False))


def test_a_network_that_keeps_what_it_has_computed(tmp_path):
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = toy(PlainConv)

        def forward(self, x):
            self.seen = self.inner(x)
            return self.seen

    module = Classifier(Keeping())
    make_trainer(tmp_path, CalibrationCallback(LCP(3))).fit(module, datamodule=Data())
    assert isinstance(module.net, SpikingModel)


def test_the_best_weights_of_a_module_with_settings_of_any_type(tmp_path):
    class Configured(Classifier):
        def __init__(self, root: Path = Path("data")):
            super().__init__()
            self.save_hyperparameters()

    module = Configured()
    kept = ModelCheckpoint(tmp_path / "best")
    callback = CalibrationCallback(LCP(3), weights="best")
    make_trainer(tmp_path, callback, kept, enable_checkpointing=True).fit(module, datamodule=Data())
    assert isinstance(module.net, SpikingModel)


def test_float32_images_in_precision_64(tmp_path):
    module = Classifier()
    make_trainer(tmp_path, CalibrationCallback(LCP(3)), precision="64-true").test(
        module, datamodule=Data(), verbose=False
    )
    expected = calibrate(toy(PlainConv).double(), [x.double() for x in IMAGES], LCP(3), progress=False)
    assert same_bits(module.net, expected)
    save_converted(module.net, tmp_path / "snn.ckpt")
    loaded = load_converted(tmp_path / "snn.ckpt")
    assert loaded.neurons["features_2"].v_th.dtype == torch.float64
    assert torch.equal(loaded(IMAGES[0].double()), module.net(IMAGES[0].double()))


def test_a_watched_network(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is an extra")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "own"))
    from lightning.pytorch.loggers import WandbLogger

    logger = WandbLogger(save_dir=tmp_path, offline=True)
    module = Remember()
    logger.watch(module, log="all", log_freq=1)
    trainer = make_trainer(tmp_path, CalibrationCallback(QUICK), logger=logger, log_every_n_steps=1)
    try:
        trainer.fit(module, datamodule=Data())
        assert same_bits(module.net, calibrate(module.copies[0], IMAGES, QUICK, progress=False))
        trainer.test(module, datamodule=Data(), verbose=False)
    finally:
        wandb.finish()


CLI = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  callbacks:
    - class_path: snn_lightning.CalibrationCallback
      init_args:
        network: net
        pipeline:
          class_path: snn_lightning.ACP
          init_args:
            timesteps: 3
            threshold: {class_path: snn_lightning.MMSE, init_args: {granularity: layer}}
            neuron: snn_lightning.Signed
            weights: {class_path: snn_lightning.LeastSquares, init_args: {iterations: 3}}
"""


class Lit(Classifier):
    """Made from a command line."""

    def __init__(self) -> None:
        super().__init__()


def test_lightnings_command_line(tmp_path):
    (tmp_path / "config.yaml").write_text(CLI)
    arguments = [
        "fit",
        "--config",
        str(tmp_path / "config.yaml"),
        "--trainer.default_root_dir",
        str(tmp_path),
    ]
    cli = LightningCLI(Lit, Data, args=arguments, save_config_callback=None)
    (callback,) = (c for c in cli.trainer.callbacks if isinstance(c, CalibrationCallback))
    assert callback.pipeline == ACP(
        3, threshold=MMSE(granularity="layer"), neuron=Signed(), weights=LeastSquares(iterations=3)
    )
    assert isinstance(cli.model.net, SpikingModel)
    assert cli.model.net.status == "calibrated"
