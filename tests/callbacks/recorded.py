"""Calibrate a module through its own code, and by hand on what its network receives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from snn_lightning import LCP, CalibrationCallback, SpikingModel, calibrate
from tests.callbacks.modules import make_trainer, pairs
from tests.toys import PlainConv, inputs, toy

PIPELINE = LCP(3)
IMAGES = inputs(PlainConv, 12)
LABELS = torch.arange(12) % 5
BOTH = [(IMAGES[:8], LABELS[:8]), (IMAGES[8:], LABELS[8:])]


def scaled(x: Tensor) -> Tensor:
    return (x - 0.3) / 0.4


def run(folder: Path, module: LightningModule, batches: Any, **settings: Any) -> Any:
    """Calibrate a module by testing it."""
    callback = CalibrationCallback(PIPELINE, batches, **settings)
    make_trainer(folder, callback).test(module, pairs(8), verbose=False)
    return module


def by_hand(received: list[Tensor], ann: nn.Module | None = None) -> SpikingModel:
    return calibrate(toy(PlainConv) if ann is None else ann, received, PIPELINE, progress=False)


class Bare(LightningModule):
    """A network, and a test that looks at nothing."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = toy(PlainConv) if net is None else net

    def test_step(self, batch, batch_idx):
        pass
