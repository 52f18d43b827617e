"""A calibration to be killed: `python interrupted.py <folder> <pause at>`.

It says what it does, and at stage `pause at` it waits in the middle of the SGD. With a negative number it
runs to its end, calibrates once more without interruption, and says whether both models are the same.
"""

import sys
import time

import torch

from snn_lightning import ACP, Weights
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.observer import Observer
from tests.calibration.support import same_bits
from tests.toys import Residual, inputs, toy

PIPELINE = ACP(4, weights=Weights(10, step_size=0.05, batch_size=8))


def say(*words: object) -> None:
    print(*words, flush=True)


class Talker(Observer):
    def __init__(self, pause_at: int) -> None:
        self.pause_at = pause_at

    def stage_started(self, index, total, name, resumed):
        say("resumed" if resumed else "started", index)

    def iteration(self, index, iteration, iterations, loss):
        if iteration == 1:
            say("sgd", index)
        if index == self.pause_at and iteration == 5:
            say("waiting", index)
            time.sleep(60)

    def stage_finished(self, record, total):
        say("finished", record.index)


def main(folder: str, pause_at: int) -> None:
    torch.set_num_threads(1)
    ann, images = toy(Residual), inputs(Residual, 24)
    model, left = run_calibration(ann, [images], PIPELINE, Communicator(), Talker(pause_at), partial=folder)
    left.remove()
    say("records", *(record["index"] for record in model.records))
    undisturbed, _ = run_calibration(ann, [images], PIPELINE, Communicator(), Observer())
    say("same", same_bits(model, undisturbed))
    say("errors", [r["error"] for r in model.records] == [r["error"] for r in undisturbed.records])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
