"""The callback that ends a training, or starts a test, with a calibrated spiking network."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.data import collect_images
from snn_lightning.calibration.partial import PartialCheckpoint
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.callbacks.communicator import StrategyCommunicator
from snn_lightning.callbacks.observer import LoggingObserver
from snn_lightning.errors import CalibrationError, CheckpointError, SettingsError
from snn_lightning.files import read_checkpoint
from snn_lightning.spiking.checkpoint import find_spiking_model, write_spec

NETWORK_NAMES = ("net", "model", "network", "backbone")
"""Attributes in which the network is looked for when it isn't named."""


class CalibrationCallback(Callback):
    """Replaces the network of a LightningModule by a calibrated spiking network.

    `trainer.fit` ends with the calibrated SNN in place, so that `trainer.test(model)` tests it; `validate`,
    `test` and `predict` on an already trained module calibrate first. A module that holds a calibrated SNN
    is left alone.

    Args:
        pipeline: what to calibrate, e.g. `ACP(timesteps=16)`.
        calibration_dataloader: batches of inputs, or of (inputs, anything); unlabelled training images
            without augmentation, in a fixed order. By default the DataModule's `calibration_dataloader()`.
        network: name of the module's attribute that holds the network; "net", "model", "network" or
            "backbone" by default. Dots lead into submodules.
        weights: "last" calibrates the weights at the end of `fit`, "best" those of the best checkpoint.
        partial: folder in which finished stages are kept, so that a killed run goes on when it is started
            again; `calibration` in the Trainer's root folder by default.
        keep_partial: leave the finished stages there until `remove_partial` is called, so that nothing is
            lost if the SNN can't be saved.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        calibration_dataloader: Iterable[Any] | None = None,
        network: str | None = None,
        weights: str = "last",
        partial: str | Path | None = None,
        keep_partial: bool = False,
    ) -> None:
        if not isinstance(pipeline, Pipeline):
            raise SettingsError(f"pipeline must be Baseline, LCP, ACP or another Pipeline, got {pipeline!r}")
        if weights not in ("last", "best"):
            raise SettingsError(f"weights must be 'last' or 'best', got {weights!r}")
        self.pipeline, self.loader, self.network = pipeline, calibration_dataloader, network
        self.weights, self.partial = weights, partial
        self.keep_partial = keep_partial
        self.records: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._left: PartialCheckpoint | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't work before anything is trained."""
        strategy = trainer.strategy
        if isinstance(getattr(strategy, "launcher", None), _MultiProcessingLauncher):
            raise CalibrationError(
                "Calibration needs processes that live as long as the program: spawn, fork and notebook "
                "launchers lose the calibrated network. Use strategy='ddp', torchrun, or one device."
            )
        if not isinstance(strategy, DDPStrategy | SingleDeviceStrategy):
            raise CalibrationError(
                f"Calibration needs whole parameters on every process, which {type(strategy).__name__} "
                "shards. Use strategy='ddp' or one device."
            )
        if str(trainer.precision).endswith("-true") and trainer.precision not in ("32-true", "64-true"):
            raise CalibrationError(
                f"Calibration at precision='{trainer.precision}' would round thresholds and potentials. Use "
                "'32-true' or a mixed precision."
            )
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        after = callbacks[callbacks.index(self) :] if self in callbacks else []
        if any(isinstance(callback, WeightAveraging) for callback in after):
            raise CalibrationError(
                "A WeightAveraging callback is listed after CalibrationCallback and would overwrite the SNN "
                "with the averaged ANN. List it before."
            )
        if find_spiking_model(pl_module) is None:
            self._find_network(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate what `fit` has trained."""
        self._calibrate_once(trainer, pl_module, best=self.weights == "best")
        # They have handed over their average, and would swap it into the SNN at the next validation.
        trainer.callbacks = [  # type: ignore[attr-defined]
            callback
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if not isinstance(callback, WeightAveraging)
        ]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if `fit` ended without a calibrated network."""
        if not self._calibrated(pl_module):
            warnings.warn(
                "fit ended before training did: nothing was calibrated, the network is still an ANN.",
                stacklevel=2,
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate before `trainer.validate`."""
        self._before_evaluation(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate before `trainer.test`."""
        self._before_evaluation(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate before `trainer.predict`."""
        self._before_evaluation(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the Trainer forget the checkpoint of an ANN that the SNN has refused.

        Lightning would load it again into whatever the same Trainer runs next.
        """
        if isinstance(exception, CheckpointError):
            trainer._checkpoint_connector._loaded_checkpoint = {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the conversion spec, for modules that know nothing of spiking networks."""
        write_spec(pl_module, checkpoint)

    def remove_partial(self, trainer: Trainer) -> None:
        """Delete the finished stages of the last calibration: the SNN is safe."""
        if self._left is not None and trainer.is_global_zero:
            self._left.remove()
        self._left = None

    def _before_evaluation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._calibrate_once(trainer, pl_module)

    def _calibrated(self, pl_module: LightningModule) -> bool:
        found = find_spiking_model(pl_module)
        return found is not None and found[1].status == "calibrated"

    def _calibrate_once(self, trainer: Trainer, pl_module: LightningModule, best: bool = False) -> None:
        if self._calibrated(pl_module):
            return
        started = time.perf_counter()
        communicator = StrategyCommunicator(trainer.strategy, trainer.global_rank, trainer.world_size)
        # enable_grad alone does not lift the inference mode that evaluation runs in.
        with torch.inference_mode(False), torch.enable_grad():
            try:
                if best:
                    self._load_best(trainer, pl_module)
                parent, name, ann = self._find_network(pl_module)
                if trainer.world_size > 1:
                    # Batch norm statistics of a training differ from process to process.
                    ann.load_state_dict(communicator.broadcast(ann.state_dict()))
                snn, self._left = run_calibration(
                    ann,
                    self._collect(trainer),
                    self.pipeline,
                    communicator,
                    LoggingObserver(trainer),
                    self.partial or Path(trainer.default_root_dir) / "calibration",
                    trainer.strategy.root_device,
                )
            except Exception as error:
                communicator.fail(error)
                raise
        setattr(parent, name, snn)
        self.records, self.seconds = snn.records, time.perf_counter() - started
        if not self.keep_partial:
            self.remove_partial(trainer)

    def _collect(self, trainer: Trainer) -> list[Tensor]:
        with torch.random.fork_rng():
            loader = self.loader
            if loader is None:
                source = getattr(trainer, "datamodule", None)
                make = getattr(source, "calibration_dataloader", None)
                if make is None:
                    raise CalibrationError(
                        "There are no calibration images: pass calibration_dataloader=... to "
                        "CalibrationCallback, or give the DataModule a method calibration_dataloader()."
                    )
                loader = make()
            return collect_images(loader, self.pipeline.seed)

    def _find_network(self, pl_module: LightningModule) -> tuple[nn.Module, str, nn.Module]:
        names = (self.network,) if self.network is not None else NETWORK_NAMES
        for name in names:
            parent_name, _, attribute = name.rpartition(".")
            try:
                parent = pl_module.get_submodule(parent_name)
            except AttributeError:
                continue
            child = getattr(parent, attribute, None)
            if isinstance(child, nn.Module):
                return parent, attribute, child
        children = ", ".join(f"'{name}'" for name, _ in pl_module.named_children()) or "none"
        raise SettingsError(
            f"{type(pl_module).__name__} has no network in {' or '.join(map(repr, names))}; its submodules "
            f"are {children}. Name it: CalibrationCallback(..., network='<attribute>')."
        )

    def _load_best(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if not path:
            raise CalibrationError(
                "weights='best' needs a ModelCheckpoint callback that has saved a checkpoint; add one."
            )
        pl_module.load_state_dict(read_checkpoint(path, pl_module.device)["state_dict"])
