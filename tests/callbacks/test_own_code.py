"""Which of a module's code says what its network receives."""

from __future__ import annotations

import pytest
from lightning.pytorch import LightningModule

from snn_lightning.errors import CalibrationError
from tests.calibration.support import same_bits
from tests.callbacks.modules import Classifier
from tests.callbacks.recorded import BOTH, IMAGES, LABELS, Bare, by_hand, run, scaled
from tests.toys import PlainConv, toy


class Dicts(Bare):
    """Only a step knows which part of its batches is the image."""

    def validation_step(self, batch):
        return self.net(scaled(batch["image"]))


class Second(Bare):
    """Labels come first."""

    def predict_step(self, batch, *rest):
        return self.net(scaled(batch[1]))


def test_batches_that_are_dicts(tmp_path):
    module = run(tmp_path, Dicts(), [{"image": IMAGES, "label": LABELS}])
    assert same_bits(module.net, by_hand([scaled(IMAGES)]))


def test_tuples_whose_input_is_not_first(tmp_path):
    assert same_bits(run(tmp_path, Second(), [(LABELS, IMAGES)]).net, by_hand([scaled(IMAGES)]))


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
