"""From a trained LightningModule to a prepared network and what it receives, on all processes together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from snn_lightning.calibration.api import prepared, samples_of
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.callbacks.communicator import StrategyCommunicator
from snn_lightning.callbacks.inputs import ModuleRecorder
from snn_lightning.callbacks.own_code import batches_on_device
from snn_lightning.errors import CalibrationError, ConversionError
from snn_lightning.files import check_sums
from snn_lightning.graph import StageNetwork
from snn_lightning.spiking.model import SpikingModel


@dataclass
class Prepared:
    """An ANN that is converted, before its calibration.

    Args:
        recorder: knows its place in the module.
        batches: what it receives, `[N, ...]` each.
        network: its stages.
        snn: what is in its place meanwhile; None for the ANN itself.
    """

    recorder: ModuleRecorder
    batches: list[Tensor]
    network: StageNetwork
    snn: SpikingModel | None = None

    def place(self, snn: SpikingModel) -> None:
        """Put an SNN into the network's place, if the module's code can do with it."""
        put_back = self.recorder.network.replace(snn)
        try:
            self.recorder.check(snn)
        except BaseException:
            put_back()
            raise


def prepare(recorder: ModuleRecorder, loader: Iterable[Any], pipeline: Pipeline) -> Prepared:
    """Record what the network receives, and convert it.

    Args:
        recorder: runs the module's code.
        loader: calibration batches.
        pipeline: says how it is converted, and how many images it takes.

    Raises:
        CalibrationError: the images are too few or of a wrong form, or nothing reaches the network.
        ConversionError: lists everything that can't be converted.
    """
    batches = recorder.record(batches_on_device(recorder.trainer, loader, pipeline.seed))
    given = sum(len(batch) for batch in batches)
    pipeline.decided(batches, given).check_images(given)
    samples = samples_of(batches, recorder.device)
    try:
        return Prepared(recorder, batches, prepared(recorder.network.ann, samples, pipeline))
    except ConversionError as error:
        if not recorder.choose_whole or recorder.network.path:
            raise
        raise ConversionError(
            f"{error}\nThis is about the module's forward whole. If only a part of it is to spike, name "
            "that part: CalibrationCallback(..., network='<attribute>').",
            error.obstacles,
        ) from error


def calibration_images(trainer: Trainer, loader: Iterable[Any] | None) -> Callable[[], Iterable[Any]]:
    """Return what gives the calibration loader: the one there is, or the DataModule.

    Raises:
        CalibrationError: neither has one.
    """
    if loader is not None:
        return lambda: loader
    make = getattr(getattr(trainer, "datamodule", None), "calibration_dataloader", None)
    if make is None:
        raise CalibrationError(
            "There are no calibration images: pass calibration_dataloader=... to CalibrationCallback, or "
            "give the DataModule a method calibration_dataloader()."
        )
    return cast(Callable[[], Iterable[Any]], make)


@contextmanager
def together(trainer: Trainer) -> Iterator[StrategyCommunicator]:
    """Connect the processes: what fails on one of them inside the context fails on all."""
    # enable_grad alone does not lift the inference mode that evaluation runs in.
    with torch.inference_mode(False), torch.enable_grad():
        communicator = StrategyCommunicator(trainer.strategy, trainer.global_rank, trainer.world_size)
        try:
            yield communicator
        except Exception as error:
            communicator.fail(error)
            raise
        finally:
            communicator.close()


def same_weights(module: LightningModule, communicator: StrategyCommunicator) -> None:
    """Give a module on all processes the state that it has on the first one.

    Batch norm statistics of a training differ from process to process.
    """
    if communicator.world_size > 1:
        module.load_state_dict(communicator.broadcast(module.state_dict()), strict=False)


def load_best(trainer: Trainer, module: LightningModule) -> None:
    """Load the weights of the best checkpoint of a training.

    Raises:
        CalibrationError: none was saved.
    """
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not path:
        raise CalibrationError(
            "weights='best' needs a ModelCheckpoint callback that has saved a checkpoint; add one."
        )
    check_sums(path)
    # Written by this very run, perhaps with hyperparameters of any type.
    checkpoint = torch.load(path, map_location=module.device, weights_only=False)
    own = vars(module).pop("on_load_checkpoint", None)
    module.on_load_checkpoint(checkpoint)
    if own is not None:
        vars(module)["on_load_checkpoint"] = own
    module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
