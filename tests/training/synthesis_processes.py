"""Synthesise in several processes: `python -m torch.distributed.run ... synthesis_processes.py <folder>`."""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from snn_lightning import Synthesis, synthesise
from tests.synthesis.support import experienced

COUNT = 5
SETTINGS = Synthesis(iterations=4, batch_size=2)


def make(**arguments: Any) -> Tensor:
    return synthesise(experienced(), COUNT, 8, SETTINGS, progress=False, **arguments)


def main(folder: str) -> None:
    torch.set_num_threads(1)
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    images = make(trainer=trainer)
    rank = torch.distributed.get_rank()
    few = synthesise(experienced(), 2, 8, SETTINGS, trainer=trainer, progress=False)  # one batch
    assert few.shape == (2, 3, 8, 8)
    batches = list(trainer.lightning_module.predict_dataloader())
    torch.save({"images": images, "batches": batches}, Path(folder) / f"{rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
