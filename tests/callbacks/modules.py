"""An ordinary LightningModule and DataModule that know nothing of spiking networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from snn_lightning import ACP, SpikingCheckpoint, Weights
from tests.toys import PlainConv, inputs, toy

QUICK = ACP(3, weights=Weights(4, step_size=0.05, batch_size=8))


class Classifier(LightningModule):
    """Its network lies in `net`."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = net if net is not None else toy(PlainConv)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("error", F.cross_entropy(self(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Reloadable(SpikingCheckpoint, Classifier):
    """The same with our mixin."""


def pairs(count: int = 24, batch_size: int = 8) -> DataLoader:
    labels = torch.randint(5, (count,), generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs(PlainConv, count), labels), batch_size=batch_size)


class Data(LightningDataModule):
    """Counts how often its calibration images are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def train_dataloader(self) -> DataLoader:
        return pairs()

    def val_dataloader(self) -> DataLoader:
        return pairs(8)

    def test_dataloader(self) -> DataLoader:
        return pairs(8)

    def predict_dataloader(self) -> DataLoader:
        return pairs(8)

    def calibration_dataloader(self) -> DataLoader:
        self.asked += 1
        return pairs(16)


def make_trainer(folder: Path, *callbacks: Any, **settings: Any) -> Trainer:
    """Return a quiet Trainer of one CPU process for three steps."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**quiet, **settings})
