"""A LightningModule whose layers lie on itself is converted whole."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F

from snn_lightning import (
    LCP,
    CalibrationCallback,
    SpikingModel,
    calibrate,
    load_converted,
    load_from_checkpoint,
)
from snn_lightning.errors import CalibrationError, ConversionError, SettingsError
from tests.calibration.support import same_bits
from tests.callbacks.modules import QUICK, Data, make_trainer, pairs
from tests.toys import PlainConv, inputs

IMAGES = inputs(PlainConv, 6, seed=5)
CALIBRATION = [batch[0] for batch in pairs(16)]


class Layers(LightningModule):
    """Layers on the module itself, as in Lightning's first tutorial; one has a usual network's name."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.save_hyperparameters()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.backbone = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
            self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.backbone(x / 2).mean((2, 3)))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Alone(Layers):
    """Nothing in it has a usual network's name."""

    def __init__(self, width: int = 6) -> None:
        super().__init__(width)
        self.encoder = self.backbone
        del self.backbone

    def forward(self, x):
        return self.head(self.encoder(x / 2).mean((2, 3)))


@pytest.mark.parametrize("cls", [Layers, Alone])
def test_fit_test_predict_save_and_load(cls, tmp_path):
    module, path = cls(), tmp_path / "snn.ckpt"
    trainer = make_trainer(tmp_path, CalibrationCallback(QUICK))
    trainer.fit(module, datamodule=Data())
    assert isinstance(module.snn, SpikingModel)
    # Its own layers are as the training has left them.
    ann = cls()
    ann.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("snn.")})
    expected = calibrate(ann.eval(), CALIBRATION, QUICK, progress=False)
    assert same_bits(module.snn, expected)
    assert torch.equal(module(IMAGES), expected(IMAGES))
    assert not torch.allclose(module(IMAGES), ann(IMAGES))

    batch, labels = next(iter(pairs(8)))
    (metrics,) = trainer.test(module, datamodule=Data(), verbose=False)
    assert metrics["accuracy"] == pytest.approx((expected(batch).argmax(1) == labels).double().mean().item())
    assert torch.equal(trainer.predict(module, datamodule=Data())[0], expected(batch))

    trainer.save_checkpoint(path)
    assert torch.equal(load_converted(path)(IMAGES), expected(IMAGES))
    loaded = load_from_checkpoint(cls, path)
    assert type(loaded) is cls
    assert torch.equal(loaded.eval()(IMAGES), expected(IMAGES))
    data, fresh = Data(), cls()
    other = make_trainer(tmp_path, CalibrationCallback(QUICK))
    assert other.test(fresh, datamodule=data, ckpt_path=path, verbose=False) == [metrics]
    assert data.asked == 0
    assert torch.equal(fresh(IMAGES), expected(IMAGES))
    assert torch.equal(copy.deepcopy(fresh)(IMAGES), expected(IMAGES))


def test_a_broken_off_calibration_goes_on(tmp_path, monkeypatch):
    from snn_lightning.calibration.walk.loop import CalibrationLoop

    fire, fired = CalibrationLoop._fire, []

    def killed(self, context, record):
        fired.append(record.name)
        if len(fired) == 2:
            raise KeyboardInterrupt
        fire(self, context, record)

    module = Alone().eval()
    expected = calibrate(copy.deepcopy(module), CALIBRATION, QUICK, progress=False)
    callback = CalibrationCallback(QUICK)
    monkeypatch.setattr(CalibrationLoop, "_fire", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        make_trainer(tmp_path, callback).test(module, datamodule=Data(), verbose=False)
    assert not hasattr(module, "snn")
    monkeypatch.undo()
    make_trainer(tmp_path, callback).test(module, datamodule=Data(), verbose=False)
    assert same_bits(module.snn, expected)


def test_something_else_with_a_usual_name(tmp_path):
    module = Alone()
    module.model = copy.deepcopy(module.head)
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    trainer.test(module, datamodule=Data(), verbose=False)
    assert same_bits(module.snn, calibrate(Alone().eval(), CALIBRATION, LCP(3), progress=False))


def test_a_part_by_name_is_no_whole(tmp_path):
    module = Layers()
    callback = CalibrationCallback(LCP(3), network="backbone")
    make_trainer(tmp_path, callback).test(module, datamodule=Data(), verbose=False)
    assert isinstance(module.backbone, SpikingModel)
    assert not hasattr(module, "snn")


def test_what_runs_beside_the_network_is_named(tmp_path):
    class Steps(Layers):
        """Its steps don't go by its forward."""

        def predict_step(self, batch, batch_idx):
            return self.head(self.backbone(batch[0]).mean((2, 3)))

        def test_step(self, batch, batch_idx):
            self.predict_step(batch, batch_idx)

        forward = LightningModule.forward

    module = Steps()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    with pytest.warns(UserWarning, match=r"'backbone' becomes spiking: 'head' of Steps run beside .* analog"):
        trainer.test(module, datamodule=Data(), verbose=False)
    assert isinstance(module.backbone, SpikingModel)


def test_steps_that_never_call_forward(tmp_path):
    class Steps(Alone):
        def predict_step(self, batch, batch_idx):
            return self.head(self.encoder(batch[0]).mean((2, 3)))

        test_step = predict_step

        def forward(self, x, y):
            return self.predict_step((x, y), 0)

    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    with pytest.raises(
        CalibrationError, match=r"(?s)What Steps\.forward receives .*predict_step does not call"
    ):
        trainer.test(Steps(), datamodule=Data(), verbose=False)


def test_a_forward_that_does_not_convert(tmp_path):
    class Gate(Alone):
        def forward(self, x):
            return torch.sigmoid(self.encoder(x)).relu().flatten(1).cumsum(1)

    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    message = r"(?s)sigmoid.*about the module's forward whole\. If only a part .* network='<attribute>'"
    with pytest.raises(ConversionError, match=message):
        trainer.test(Gate(), datamodule=Data(), verbose=False)


def test_no_network_and_no_forward(tmp_path):
    class Nothing(LightningModule):
        def test_step(self, batch, batch_idx):
            pass

    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    message = "Nothing has no network in 'net' .* and no forward of its own; its submodules are none"
    with pytest.raises(SettingsError, match=message):
        trainer.test(Nothing(), datamodule=Data(), verbose=False)


def test_an_attribute_called_snn(tmp_path):
    module = Alone()
    module.snn = nn.Identity()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    with pytest.raises(SettingsError, match=r"Alone has an attribute 'snn' already, .* Rename it"):
        trainer.test(module, datamodule=Data(), verbose=False)
