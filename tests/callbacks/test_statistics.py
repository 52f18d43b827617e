"""The SNN is told from what it was not calibrated on, and from what is not called."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.data import DataLoader

from snn_lightning import CalibrationCallback
from snn_lightning.callbacks.statistics import InputStatistics
from tests.callbacks.modules import Classifier, make_trainer, pairs
from tests.callbacks.recorded import BOTH, IMAGES, PIPELINE, Bare
from tests.toys import PlainConv, toy


def test_images_of_another_range_in_the_test(tmp_path):
    module = Classifier()
    callback = CalibrationCallback(PIPELINE, [IMAGES])
    trainer = make_trainer(tmp_path, callback)
    with pytest.warns(UserWarning, match=r"The SNN receives numbers of .* prepared in different ways"):
        trainer.test(module, DataLoader([(255 * x, 1) for x in IMAGES]), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The SNN receives")
        trainer.test(module, pairs(8), verbose=False)
    assert module.net.listener is None


def test_an_evaluation_without_the_snn_says_so(tmp_path):
    class Average(Bare):
        def __init__(self):
            super().__init__()
            self.average = toy(PlainConv)

        def validation_step(self, batch, batch_idx):
            return self.net(batch[0])

        def test_step(self, batch, batch_idx):
            return self.average(batch[0])

    module, message = (
        Average(),
        "The SNN was not called: what was evaluated of Average is not the spiking netw",
    )
    callback = CalibrationCallback(PIPELINE, BOTH)
    with pytest.warns(UserWarning, match=message):
        make_trainer(tmp_path, callback).test(module, pairs(8), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The SNN was not called")
        make_trainer(tmp_path, callback).validate(module, pairs(8), verbose=False)
    given = CalibrationCallback(PIPELINE, BOTH, inputs=lambda batch: batch[0])
    with pytest.warns(UserWarning, match=message):
        make_trainer(tmp_path, given).test(Average(), pairs(8), verbose=False)


def test_mean_and_deviation():
    statistics = InputStatistics.of([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [6.0]])])
    assert (statistics.mean, statistics.deviation) == (3.0, pytest.approx(3.5**0.5))
