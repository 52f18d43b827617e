"""A spiking network and all that its page shows."""

import csv
import re
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning import ACP, Best, Distillation, SpikingModel, Weights, calibrate, convert

from ..toys import Residual, inputs, toy

RESULTS: dict[str, Any] = {
    "model": "resnet20",
    "data": "digits",
    "pipeline": "acp",
    "seed": 3,
    "ann_accuracy": 0.9972,
    "uncalibrated_accuracy": 0.41,
    "snn_accuracy": 0.9889,
    "accuracy_over_time": [0.5, 0.9889],
    "seconds": {"pretrain": 12.5, "snn_test": 1.25},
    "command": "python calibrate.py pipeline=acp T=2 'data.root=my photos'",
    "config": {"T": 2, "model": {"name": "resnet20", "width": 64}},
}


@cache
def calibrated() -> tuple[nn.Module, SpikingModel, Tensor]:
    """The ANN, the SNN and calibration images; not to be changed."""
    ann, x = toy(Residual), inputs(Residual, 160)
    weights = Weights(iterations=4, batch_size=8)
    return ann, calibrate(ann, [x], ACP(timesteps=2, weights=weights), progress=False), x


@cache
def uncalibrated() -> SpikingModel:
    """What the same ANN was before."""
    ann, _, x = calibrated()
    return convert(ann, x, timesteps=2)


@cache
def distilled() -> tuple[nn.Module, SpikingModel, Tensor]:
    """The same, of the pipeline with a step on the whole network."""
    torch.manual_seed(0)
    ann, x = (
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)),
        inputs(Residual, 16).flatten(1)[:, :4],
    )
    pipeline = Best(timesteps=2, distillation=Distillation(iterations=6, batch_size=8))
    return ann, calibrate(ann, [x], pipeline, progress=False), x


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    """The numbers of a chart."""
    with open(folder / "report" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str, heading: str) -> list[float | None]:
    """A column of them."""
    return [float(row[heading]) if row[heading] else None for row in rows(folder, name)]


def words(page: Path) -> str:
    """What is to be read outside the charts."""
    text = re.sub(r"<(style|svg|head)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).replace("\u00a0", " ").split())
