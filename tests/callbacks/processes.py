"""Calibrate in several processes: `python [-m torch.distributed.run ...] processes.py <what> <folder>`.

Each process writes what it has to `<folder>/<rank>.pt`. `what` is "quick" (one calibration) or "everything":
several pipelines one after the other, then errors on one process that are caught, and at last one that is
not.
"""

import faulthandler
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import DummyLogger

from snn_lightning import (
    ACP,
    LCP,
    Augmentation,
    Baseline,
    Best,
    Bias,
    CalibrationCallback,
    Distillation,
    LeastSquares,
    NeuronSearch,
    Pipeline,
    Potential,
    Weights,
)
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.steps.weights import LayerLoop
from snn_lightning.calibration.walk.context import StepReport
from snn_lightning.callbacks import communicator
from snn_lightning.callbacks.shared_memory import SharedMemory
from tests.callbacks.modules import Classifier, make_trainer, pairs
from tests.processes import TIMEOUT
from tests.toys import Residual, inputs, toy

WEIGHTS = Weights(30, step_size=0.05, batch_size=16)
PIPELINES: dict[str, tuple[Pipeline, int]] = {
    "acp": (ACP(4, weights=WEIGHTS), 48),
    "acp, odd number of images": (ACP(4, weights=WEIGHTS, potential=Potential(images=20)), 41),
    "acp, default learning rate": (ACP(4, weights=Weights(10, batch_size=15)), 41),
    "lcp": (LCP(4), 48),
    "lcp, odd number of images": (LCP(4), 41),
    "lcp, search and repeats": (LCP(4, search=NeuronSearch(images=30), bias=Bias(repeats=2)), 41),
    "least squares": (ACP(4, weights=LeastSquares(images=30)), 41),
    "best": (Best(4, distillation=Distillation(6, batch_size=16)), 41),
    "best, augmented": (
        Best(
            4,
            weights=None,
            potential=None,
            augment=Augmentation(crop=0.5, mix=0.5, colour=0.2, images=41),
            distillation=Distillation(20, batch_size=16),
        ),
        19,
    ),
    "baseline, layer-wise bias rounding": (Baseline(4, rounding="bias"), 33),
}


def calibrate(folder: Path, pipeline: Pipeline, images: Any, devices: int, **settings: Any) -> Classifier:
    """Calibrate a residual network by validating it; processes start with different batch norm statistics."""
    module = settings.pop("cls", Classifier)(toy(Residual))
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) > 0:
        module.net.stem_norm.running_mean += 0.1
    callback = CalibrationCallback(pipeline, images)
    trainer = make_trainer(folder, callback, devices=devices, **settings)
    trainer.validate(module, pairs(8), verbose=False)
    return module


class Whole(Classifier):
    """Has a parameter of its own, and preprocesses."""

    def __init__(self, net: Any) -> None:
        super().__init__(net)
        self.gain = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Any) -> Any:
        return self.net(x / 2) * self.gain


def agree(folder: Path, devices: int, names: list[str], **settings: Any) -> dict[str, Any]:
    found = {}
    for name in names:
        pipeline, count = PIPELINES[name]
        model = calibrate(folder, pipeline, [inputs(Residual, count)], devices, **settings).net
        found[name] = dict(model.state_dict()), [record["error"] for record in model.records]
    images = [inputs(Residual, 41)]
    snn = calibrate(folder, LCP(4), images, devices, cls=Whole, **settings).snn
    found["whole"] = dict(snn.state_dict()), [record["error"] for record in snn.records]
    return found


@register_step
@dataclass(frozen=True)
class Fail(Step):
    """Raises on one process, in one stage."""

    rank: int = 1

    def run(self, context: Any) -> StepReport:
        if context.communicator.rank == self.rank and context.stage.name == "relu_2":
            raise ZeroDivisionError("division by nothing")
        return StepReport(0.0, 0.0)


@dataclass(frozen=True)
class Failing(Pipeline):
    step: Step = field(default_factory=Fail)


class FullLogger(DummyLogger):
    """Can't write any more in the middle of the second stage's SGD."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if metrics.get("calibration/loss/relu_1") and metrics.get("calibration/iteration") == 3:
            raise OSError("no space left for the log")


def failures(folder: Path, rank: int, **settings: Any) -> dict[str, str]:
    """Return the message that each failure gives on this process."""
    good = [inputs(Residual, 20)]
    bad = [torch.full((20, 3, 8, 8), torch.nan)] if rank == 1 else good
    quick = ACP(3, weights=Weights(6, step_size=0.05, batch_size=8))
    predict = LayerLoop._predict
    calls = []

    def out_of_memory(self: LayerLoop, values: Any) -> Any:
        calls.append(1)
        if rank == 1 and len(calls) == 12:
            raise MemoryError("out of memory")
        return predict(self, values)

    cases = {
        "images": lambda: calibrate(folder, quick, bad, **settings),
        "step on 1": lambda: calibrate(folder, Failing(3), good, **settings),
        "step on 0": lambda: calibrate(folder, Failing(3, step=Fail(0)), good, **settings),
        "sgd": lambda: calibrate(folder, quick, good, **settings),
        "logger": lambda: calibrate(folder, quick, good, logger=FullLogger(), **settings),
        "too few": lambda: calibrate(folder, LCP(3), [inputs(Residual, 1)], **settings),
        "none": lambda: calibrate(folder, LCP(3), good, **settings),
    }
    messages = {}
    for name, case in cases.items():
        LayerLoop._predict = out_of_memory if name == "sgd" else predict
        try:
            case()
            messages[name] = "fine"
        except Exception as error:
            messages[name] = f"{type(error).__name__}: {error}"
    return messages


def not_here(path: Path, *_: float) -> None:
    """Be `SharedMemory` on a machine other than that of process 0."""
    raise FileNotFoundError(path)


def main(what: str, folder: str) -> None:
    faulthandler.dump_traceback_later(TIMEOUT - 30, exit=True)
    torch.set_num_threads(1)
    nodes = int(os.environ.get("NODES", 1))
    if nodes == 2 and os.environ["RANK"] == "1":
        communicator.SharedMemory = not_here
    shared, reduce = [], SharedMemory.reduce

    def counted(self: SharedMemory, *given: Any) -> torch.Tensor:
        shared.append(self.rank)
        return reduce(self, *given)

    SharedMemory.reduce = counted
    settings = {"devices": 2 // nodes, "num_nodes": nodes, "strategy": "ddp"}
    here = Path(folder)
    found = {"models": agree(here, names=list(PIPELINES) if what == "everything" else ["acp"], **settings)}
    rank = torch.distributed.get_rank()
    found["reductions in shared memory"] = len(shared)
    if what == "everything":
        found["messages"] = failures(here, rank, **settings)
    torch.save(found, here / f"{rank}.pt")
    if what == "everything":
        calibrate(here, Failing(3), [inputs(Residual, 20)], **settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
