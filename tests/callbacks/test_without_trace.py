"""Running a module's own code leaves nothing behind."""

from __future__ import annotations

from collections import Counter

import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from snn_lightning import CalibrationCallback
from tests.calibration.support import same_bits
from tests.callbacks.modules import make_trainer, pairs
from tests.callbacks.recorded import BOTH, PIPELINE, Bare, by_hand, run


class Busy(Bare):
    """Logs, counts and collects in its validation."""

    def __init__(self):
        super().__init__()
        self.metrics = MetricCollection([MulticlassAccuracy(5), MulticlassConfusionMatrix(5)])
        self.outputs, self.steps, self.sums = [], 0, {"loss": torch.zeros(())}
        self.register_buffer("seen", torch.zeros(()))
        self.noise = nn.Dropout(0.5)

    def validation_step(self, batch, batch_idx):
        assert not self.trainer.training
        assert not torch.is_grad_enabled()
        x, y = batch
        logits = self.net(self.noise(x))
        self.log_dict(self.metrics(logits, y))
        self.log("validation", 1.0)
        self.logger.experiment.add_image("x", x)
        self.logger.log_metrics({"validation": 1.0})
        self.outputs.append(logits)
        self.steps += 1
        self.sums["loss"] += 1
        self.seen += 1


class Noting(DummyLogger):
    """Notes the names of what is logged."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def log_metrics(self, metrics, step=None):
        self.names |= {name.split("/")[0] for name in metrics}


def test_nothing_is_logged_and_no_state_changes(tmp_path):
    module, logger = Busy().train(), Noting()
    outputs, sums = module.outputs, module.sums
    callback = CalibrationCallback(PIPELINE, BOTH)
    make_trainer(tmp_path, callback, logger=logger).test(module, pairs(8), verbose=False)
    # The dropout was off.
    assert same_bits(module.net, by_hand([x for x, _ in BOTH]))
    assert logger.names == {"calibration"}
    assert module.outputs is outputs == []
    assert module.sums is sums == {"loss": torch.zeros(())}
    assert (module.steps, module.seen.item()) == (0, 0)
    assert all(metric.update_count == 0 for metric in module.metrics.values())
    assert module.metrics["MulticlassConfusionMatrix"].confmat.sum() == 0
    assert module.noise.training
    assert "log" not in vars(module)


class Fixed(dict):
    """Can't be changed."""

    def update(self, *args, **kwargs):
        raise TypeError("fixed")


def test_metrics_in_a_dict_and_parameters_stay_as_they_were(tmp_path):
    class Keeping(Bare):
        def __init__(self):
            super().__init__()
            self.metrics = {"accuracy": MulticlassAccuracy(5, average="micro")}
            self.counts, self.fixed = Counter(), Fixed(a=1)
            self.average = nn.Parameter(torch.zeros(2), requires_grad=False)

        def validation_step(self, batch, batch_idx):
            self.metrics["accuracy"].update(self.net(batch[0]), batch[1])
            self.average += 1
            self.counts["batches"] += 1
            self.made = nn.Linear(1, 1)

    module = run(tmp_path, Keeping(), BOTH)
    assert module.metrics["accuracy"].update_count == 0
    assert module.average.tolist() == [0, 0]
    assert (module.counts, module.fixed) == (Counter(), {"a": 1})
    assert "made" not in module._modules
