"""One line more in somebody's program: fit ends with a calibrated SNN, test tests it."""

import warnings

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn

from snn_lightning import LCP, CalibrationCallback, SpikingModel, calibrate, load_converted
from snn_lightning.callbacks.averaging import EMAWeightAveraging
from snn_lightning.errors import CalibrationError, CheckpointError, SettingsError
from tests.calibration.support import same_bits
from tests.callbacks.modules import QUICK, Classifier, Data, make_trainer, pairs
from tests.toys import PlainConv, inputs, toy
from tests.versions import needs_averaging

IMAGES = inputs(PlainConv, 6, seed=5)


def images(loader) -> list[torch.Tensor]:
    return [batch[0] for batch in loader]


class Remember(Classifier):
    """Keeps a copy of the ANN as the training left it."""

    def on_train_end(self):
        # The callbacks' hooks come first: what is here is already the SNN.
        self.after_callbacks = type(self.net)

    def on_train_batch_end(self, *args):
        copy = toy(PlainConv)
        copy.load_state_dict(self.net.state_dict())
        self.copies = [copy]

    @property
    def trained(self):
        return self.copies[0]


def test_fit_ends_with_a_calibrated_network(tmp_path):
    module, callback = Remember(), CalibrationCallback(QUICK)
    trainer = make_trainer(tmp_path, callback)
    trainer.fit(module, datamodule=Data())
    assert isinstance(module.net, SpikingModel)
    assert module.net.status == "calibrated"
    assert module.after_callbacks is SpikingModel
    expected = calibrate(module.trained, images(pairs(16)), QUICK, progress=False)
    assert same_bits(module.net, expected)
    assert callback.records == module.net.records != []
    assert callback.seconds > 0
    assert list((tmp_path / "calibration").iterdir()) == []

    before = {name: value.clone() for name, value in module.net.state_dict().items()}
    (metrics,) = trainer.test(module, datamodule=Data(), verbose=False)
    batch, labels = next(iter(pairs(8)))
    assert metrics["accuracy"] == pytest.approx((expected(batch).argmax(1) == labels).double().mean().item())
    assert all(torch.equal(value, before[name]) for name, value in module.net.state_dict().items())


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluating_a_trained_module_calibrates_first_and_once(verb, tmp_path):
    module, data = Classifier(), Data()
    trainer = make_trainer(tmp_path, CalibrationCallback(QUICK))
    run = {
        "validate": lambda: trainer.validate(module, datamodule=data, verbose=False),
        "test": lambda: trainer.test(module, datamodule=data, verbose=False),
        "predict": lambda: trainer.predict(module, datamodule=data),
    }[verb]
    expected = calibrate(toy(PlainConv), images(pairs(16)), QUICK, progress=False)
    first, snn = run(), module.net
    assert same_bits(snn, expected)
    assert data.asked == 1
    assert not any(value.is_inference() for value in snn.state_dict().values())
    if verb == "predict":
        assert torch.equal(first[0], expected(next(iter(pairs(8)))[0]))
    else:
        assert run() == first
    run()
    assert module.net is snn
    assert data.asked == 1


def test_validation_inside_fit_is_of_the_ann(tmp_path):
    kinds = []

    class Watch(Classifier):
        def on_validation_start(self):
            kinds.append(type(self.net))

    module = Watch()
    make_trainer(tmp_path, CalibrationCallback(QUICK), num_sanity_val_steps=1).fit(module, datamodule=Data())
    assert kinds == [PlainConv, PlainConv]


class Model(Classifier):
    def __init__(self):
        super().__init__()
        self.model = self.net
        del self.net

    def forward(self, x):
        return self.model(x)


class Nested(Classifier):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict({"classifier": self.net})
        del self.net

    def forward(self, x):
        return self.inner["classifier"](x)


class Named(Classifier):
    """`net` is something else here."""

    def __init__(self):
        super().__init__()
        self.classifier, self.net = self.net, nn.Identity()

    def forward(self, x):
        return self.classifier(self.net(x))


@pytest.mark.parametrize(
    ("cls", "setting", "path"),
    [
        (Model, None, "model"),
        (Nested, "inner.classifier", "inner.classifier"),
        (Named, "classifier", "classifier"),
    ],
)
def test_where_the_network_lies(cls, setting, path, tmp_path):
    module = cls()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), network=setting))
    trainer.test(module, datamodule=Data(), verbose=False)
    assert isinstance(module.get_submodule(path), SpikingModel)
    trainer.save_checkpoint(tmp_path / "snn.ckpt")
    assert torch.equal(load_converted(tmp_path / "snn.ckpt")(IMAGES), module.get_submodule(path)(IMAGES))


@pytest.mark.parametrize("setting", ["network", "inner.net"])
def test_a_module_without_such_a_network(setting, tmp_path):
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), network=setting))
    message = r"Nested has no network in .*; its submodules are 'inner'\. Name it: CalibrationCallback"
    with pytest.raises(SettingsError, match=message):
        trainer.fit(Nested(), datamodule=Data())


def test_a_compiled_network(tmp_path):
    module = Classifier(torch.compile(toy(PlainConv), backend="eager"))
    make_trainer(tmp_path, CalibrationCallback(LCP(3))).test(module, datamodule=Data(), verbose=False)
    assert same_bits(module.net, calibrate(toy(PlainConv), images(pairs(16)), LCP(3), progress=False))


def test_the_loader_of_the_callback_comes_first(tmp_path):
    module, data = Classifier(), Data()
    callback = CalibrationCallback(LCP(3), calibration_dataloader=pairs(10))
    make_trainer(tmp_path, callback).test(module, datamodule=data, verbose=False)
    assert data.asked == 0
    assert same_bits(module.net, calibrate(toy(PlainConv), images(pairs(10)), LCP(3), progress=False))


def test_no_calibration_images(tmp_path):
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)))
    message = r"no calibration images: pass calibration_dataloader=\.\.\. .*calibration_dataloader\(\)"
    with pytest.raises(CalibrationError, match=message):
        trainer.test(Classifier(), pairs(), verbose=False)


def test_a_failed_calibration_leaves_the_ann(tmp_path):
    module = Classifier()
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), [torch.full((2, 3, 8, 8), torch.nan)]))
    with pytest.raises(CalibrationError, match="images have NaN"):
        trainer.test(module, pairs(), verbose=False)
    assert isinstance(module.net, PlainConv)


def test_the_global_generator_is_not_disturbed(tmp_path):
    states = []

    class Watch(Classifier):
        def on_test_start(self):
            states.append(torch.get_rng_state())

    for callbacks in ([], [CalibrationCallback(QUICK)]):
        torch.manual_seed(0)
        make_trainer(tmp_path, *callbacks).test(Watch(), datamodule=Data(), verbose=False)
    assert torch.equal(*states)


def test_a_broken_off_calibration_goes_on(tmp_path):
    class Failing(DummyLogger):
        def log_metrics(self, metrics, step):
            if metrics.get("calibration/stage") == 1.0:
                raise OSError("no space left")

    module, callback = Classifier(), CalibrationCallback(QUICK, partial=tmp_path / "kept")
    trainer = make_trainer(tmp_path, callback, logger=Failing())
    with pytest.raises(OSError, match="no space left"):
        trainer.test(module, datamodule=Data(), verbose=False)
    (left,) = (tmp_path / "kept").iterdir()
    assert torch.load(left, weights_only=True)["finished"] == 1
    make_trainer(tmp_path, callback).test(module, datamodule=Data(), verbose=False)
    assert same_bits(module.net, calibrate(toy(PlainConv), images(pairs(16)), QUICK, progress=False))
    assert list((tmp_path / "kept").iterdir()) == []


def test_test_without_a_model_would_load_the_ann(tmp_path):
    module = Classifier()
    checkpoint = ModelCheckpoint(tmp_path / "best", monitor="error")
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3)), checkpoint, enable_checkpointing=True)
    trainer.fit(module, datamodule=Data())
    snn = {name: value.clone() for name, value in module.net.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"weights of an ANN, .* pass it: trainer\.test\(model\)"):
        trainer.test(datamodule=Data(), verbose=False)
    with pytest.raises(CheckpointError, match=r"trainer\.test\(model\) rather than trainer\.test\(\)"):
        trainer.test(module, datamodule=Data(), ckpt_path="best", verbose=False)
    assert all(torch.equal(value, snn[name]) for name, value in module.net.state_dict().items())
    trainer.test(module, datamodule=Data(), verbose=False)


@pytest.mark.parametrize("weights", ["last", "best"])
def test_which_weights_are_calibrated(weights, tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "best", monitor="rising", mode="min", save_weights_only=True)

    class Rising(Remember):
        """By its own measure the first epoch is the best."""

        def on_validation_epoch_end(self):
            self.log("rising", float(self.current_epoch))

    module = Rising()
    callback = CalibrationCallback(LCP(3), weights=weights)
    make_trainer(tmp_path, callback, checkpoint, enable_checkpointing=True, max_epochs=2).fit(
        module, datamodule=Data()
    )
    ann = module.trained
    if weights == "best":
        ann = toy(PlainConv)
        saved = torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"]
        ann.load_state_dict(
            {name.removeprefix("net."): value for name, value in saved.items() if "net." in name}
        )
        assert not torch.equal(ann.head.weight, module.trained.head.weight)
    assert same_bits(module.net, calibrate(ann, images(pairs(16)), LCP(3), progress=False))


def test_the_best_weights_need_a_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(3), weights="best"))
    with pytest.raises(CalibrationError, match="weights='best' needs a ModelCheckpoint callback"):
        trainer.fit(Classifier(), datamodule=Data())


@needs_averaging
def test_averaged_weights_are_calibrated_and_leave_the_snn_alone(tmp_path):
    module, average = Remember(), EMAWeightAveraging(decay=0.5)
    trainer = make_trainer(tmp_path, average, CalibrationCallback(LCP(3)))
    trainer.fit(module, datamodule=Data())
    ann = average._average_model.module.net
    assert not torch.equal(ann.head.weight, module.trained.head.weight)
    assert same_bits(module.net, calibrate(ann.eval(), images(pairs(16)), LCP(3), progress=False))
    before, output = {n: v.clone() for n, v in module.net.state_dict().items()}, module.net(IMAGES)
    trainer.validate(module, datamodule=Data(), verbose=False)
    trainer.test(module, datamodule=Data(), verbose=False)
    assert all(torch.equal(value, before[name]) for name, value in module.net.state_dict().items())
    trainer.save_checkpoint(tmp_path / "snn.ckpt")
    assert torch.equal(load_converted(tmp_path / "snn.ckpt")(IMAGES), output)


def test_fit_that_ends_early_warns(tmp_path):
    callback = CalibrationCallback(LCP(3))
    trainer = make_trainer(tmp_path, callback, max_epochs=0)
    with pytest.warns(UserWarning, match="nothing was calibrated, the network is still an ANN"):
        trainer.fit(Classifier(), datamodule=Data())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = Classifier()
        module.net = calibrate(module.net, images(pairs(8)), LCP(3), progress=False)
        callback.on_fit_end(trainer, module)


def test_a_fit_in_precision_64(tmp_path):
    module = Classifier()
    callback = CalibrationCallback(LCP(3), [x.double() for x in images(pairs(16))])
    make_trainer(tmp_path, callback, precision="64-true").test(module, pairs(), verbose=False)
    assert all(neuron.v_th.dtype == torch.float64 for neuron in module.net.neurons.values())
