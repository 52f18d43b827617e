"""The callback that ends a training, or starts a test, with a calibrated spiking network."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from snn_lightning.calibration.api import run_calibration, spiking
from snn_lightning.calibration.budget.start import StartingPoint
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.walk.resume import PartialCheckpoint
from snn_lightning.callbacks.averaging import WeightAveraging
from snn_lightning.callbacks.communicator import StrategyCommunicator
from snn_lightning.callbacks.inputs import ModuleRecorder
from snn_lightning.callbacks.networks import find_network
from snn_lightning.callbacks.observer import LoggingObserver
from snn_lightning.callbacks.preparation import (
    Prepared,
    calibration_images,
    load_best,
    prepare,
    same_weights,
    together,
)
from snn_lightning.callbacks.refusals import refuse_frozen, refuse_trainer
from snn_lightning.callbacks.statistics import InputStatistics
from snn_lightning.callbacks.synthetic import made_images
from snn_lightning.errors import CalibrationError, CheckpointError, SettingsError
from snn_lightning.files import check_sums
from snn_lightning.settings import check_choice
from snn_lightning.spiking.checkpoint import (
    find_spiking_model,
    rebuild_spiking_model,
    write_spec,
)
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.synthesis.settings import Synthesis
from snn_lightning.thresholds import Max


class CalibrationCallback(Callback):
    """Replaces the network of a LightningModule by a calibrated spiking network.

    `trainer.fit` ends with the calibrated SNN in place, so that `trainer.test(model)` tests it; `validate`,
    `test` and `predict` on an already trained module calibrate first. A module that holds a calibrated SNN
    is left alone; one that is tested with the checkpoint of an SNN (`ckpt_path`) gets the SNN from there.

    The calibration images are what the network receives while the module's own code runs on the calibration
    batches: the step that is about to run, else `validation_step`, `test_step`, `predict_step` or `forward`,
    without logging anything.

    Args:
        pipeline: what to calibrate, e.g. `ACP(timesteps=16)`.
        calibration_dataloader: batches like those of validation, or of inputs alone; training images without
            augmentation, in a fixed order. By default the DataModule's `calibration_dataloader()`. Instead
            "synthetic", or settings `Synthesis(...)`: images made from the module itself, for which the
            DataModule says only `image_size`, `in_channels`, `mean`, `std`, and in
            `settings.calibration_images` how many (256); or "noise".
        network: qualified name of the part that becomes spiking. By default "net", "model", "network" or
            "backbone", where the module's forward uses no other layers; else the module's `forward` whole,
            the SNN then being the module's `snn`.
        inputs: what the network receives, as a function of a batch, where the module's code can't tell.
        weights: "last" calibrates the weights at the end of `fit`, "best" those of the best checkpoint.
        partial: folder in which finished stages are kept, so that a killed run goes on when it is started
            again; `calibration` in the Trainer's root folder by default.
        keep_partial: leave the finished stages there until `remove_partial` is called, so that nothing is
            lost if the SNN can't be saved.
        automatic: calibrate at the end of `fit` and before evaluations. If not, that is left to `convert` and
            `calibrate`, called between two runs of the Trainer, and evaluations take what network there is.

    Example:
        >>> import torch
        >>> from snn_lightning import LCP
        >>> class Lit(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = torch.nn.ReLU()
        ...     def forward(self, x):
        ...         return self.net(x)
        >>> loader = torch.utils.data.DataLoader(torch.rand(8, 2), batch_size=4)
        >>> callback = CalibrationCallback(LCP(timesteps=4), calibration_dataloader=loader)
        >>> trainer, lit = Trainer(callbacks=[callback], logger=False, enable_progress_bar=False), Lit()
        >>> readouts = trainer.predict(lit, loader)
        >>> lit.net.status
        'calibrated'
    """

    def __init__(
        self,
        pipeline: Pipeline,
        calibration_dataloader: Iterable[Any] | str | Synthesis | None = None,
        network: str | None = None,
        inputs: Callable[[Any], Tensor] | None = None,
        weights: str = "last",
        partial: str | Path | None = None,
        keep_partial: bool = False,
        automatic: bool = True,
    ) -> None:
        if not isinstance(pipeline, Pipeline):
            raise SettingsError(f"pipeline must be Baseline, LCP, ACP or another Pipeline, got {pipeline!r}")
        check_choice("weights", weights, ("last", "best"))
        if inputs is not None and not callable(inputs):
            raise SettingsError(f"inputs must be a function of a calibration batch, got {inputs!r}")
        self.pipeline, self.loader, self.network = pipeline, calibration_dataloader, network
        self.inputs = inputs
        made_images(calibration_dataloader, inputs, pipeline.seed)  # says what is wrong
        self.weights, self.partial = weights, partial
        self.keep_partial, self.automatic = keep_partial, automatic
        self.records: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._left: PartialCheckpoint | None = None
        self._statistics: InputStatistics | None = None
        self._snn: SpikingModel | None = None
        self._prepared: Prepared | None = None

    def convert(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the uncalibrated SNN into the ANN's place; `calibrate` goes on from there.

        Its thresholds are the largest activations of each channel on the first calibration batch.

        Raises:
            CalibrationError: the Trainer has not run the module yet.
        """
        self._between_runs(trainer, pl_module)
        if self._calibrated(pl_module) or self._ready(pl_module):
            return
        with together(trainer) as communicator:
            ready = self._prepare(trainer, pl_module, communicator)
            conversion = replace(self.pipeline.conversion, threshold=Max(), rounding="potential")
            sample = ready.batches[0].to(trainer.strategy.root_device)
            self._snn = ready.snn = spiking(ready.network, sample, conversion)
            ready.place(ready.snn)
        self._prepared = ready

    def calibrate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the calibrated SNN into the place of the ANN, or of the SNN that `convert` has put there.

        Raises:
            CalibrationError: the Trainer has not run the module yet.
        """
        self._between_runs(trainer, pl_module)
        self._calibrate_once(trainer, pl_module)

    def starting_point(self, trainer: Trainer, pl_module: LightningModule) -> StartingPoint:
        """Return the ANN and what it receives of the calibration images, for any number of calibrations.

        Raises:
            CalibrationError: the Trainer has not run the module yet.
        """
        self._between_runs(trainer, pl_module)
        with together(trainer) as communicator:
            ready = self._prepare(trainer, pl_module, communicator)
        return StartingPoint(ready.recorder.network.ann, ready.batches, trainer.strategy.root_device)

    def _between_runs(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.lightning_module is not pl_module:
            raise CalibrationError(
                "The Trainer's devices and processes are ready once it has run the module: call "
                "trainer.test(model), or validate or fit, before convert and calibrate."
            )
        # A run ends with the module on the CPU.
        pl_module.to(trainer.strategy.root_device)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't work before anything is trained."""
        refuse_trainer(trainer, self)
        self._look(trainer, pl_module, stage)
        _rebuild_on_loading(trainer, pl_module)

    def _look(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a second network, and a training after which there are no calibration images."""
        found = find_spiking_model(pl_module)
        if found is not None:
            if self.network is not None and pl_module.get_submodule(self.network) is not found[1]:
                raise CalibrationError(
                    f"{type(pl_module).__name__} holds a spiking network in '{found[0]}' already, and only "
                    f"one can be calibrated: '{self.network}' would stay an ANN. Convert both parts as one "
                    "module, or give the other one back its ANN."
                )
            return
        if stage == "fit":
            made = made_images(self.loader, self.inputs, self.pipeline.seed)
            made.check(trainer) if made else calibration_images(trainer, cast(Any, self.loader))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take back what `setup` and the evaluation have added to the module."""
        vars(pl_module).pop("on_load_checkpoint", None)
        if self._statistics is not None:
            self._statistics.stop()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to train what has nothing to train, or no network to calibrate afterwards."""
        refuse_frozen(pl_module)
        if find_spiking_model(pl_module) is None:
            # Not in `setup`: the module may build its network in its own, or in `configure_model`.
            find_network(pl_module, self.network)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate what `fit` has trained."""
        if not self.automatic:
            return
        self._calibrate_once(trainer, pl_module, best=self.weights == "best")
        # They have handed over their average, and would swap it into the SNN at the next validation.
        trainer.callbacks = [  # type: ignore[attr-defined]
            callback
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if not isinstance(callback, WeightAveraging)
        ]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if `fit` ended without a calibrated network."""
        if self.automatic and not self._calibrated(pl_module):
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

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if `trainer.validate` has not looked at the SNN."""
        self._after_evaluation(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if `trainer.test` has not looked at the SNN."""
        self._after_evaluation(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if `trainer.predict` has not looked at the SNN."""
        self._after_evaluation(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take back what `setup` has added, and let the Trainer forget an ANN that the SNN has refused.

        Lightning would load its checkpoint again into whatever the same Trainer runs next.
        """
        self.teardown(trainer, pl_module, "")
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
        if trainer.state.fn == TrainerFn.FITTING:
            return
        if self.automatic:
            self._calibrate_once(trainer, pl_module)
        found = find_spiking_model(pl_module)
        if found is None:
            return
        if self._statistics is None or self._snn is not found[1]:
            self._statistics, self._snn = InputStatistics(), found[1]
        self._statistics.watch(found[1])

    def _after_evaluation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        watched = self._statistics
        if trainer.state.fn != TrainerFn.FITTING and watched is not None and watched.waiting:
            watched.stop()
            warnings.warn(
                f"The SNN was not called: what was evaluated of {type(pl_module).__name__} is not the "
                "spiking network. Let its steps call the attribute that holds the SNN, or self(...) where "
                "the whole forward was converted.",
                stacklevel=2,
            )

    def _calibrated(self, pl_module: LightningModule) -> bool:
        found = find_spiking_model(pl_module)
        return found is not None and found[1].status == "calibrated"

    def _calibrate_once(self, trainer: Trainer, pl_module: LightningModule, best: bool = False) -> None:
        if self._calibrated(pl_module):
            return
        started = time.perf_counter()
        with together(trainer) as communicator:
            if best:
                load_best(trainer, pl_module)
            ready = self._ready(pl_module) or self._prepare(trainer, pl_module, communicator)
            self._prepared = None
            snn, self._left = run_calibration(
                ready.network,
                ready.batches,
                self.pipeline,
                communicator,
                LoggingObserver(trainer),
                self.partial or Path(trainer.default_root_dir) / "calibration",
                trainer.strategy.root_device,
            )
            ready.place(snn)
        self._snn = snn
        self.records, self.seconds = snn.records, time.perf_counter() - started
        if not self.keep_partial:
            self.remove_partial(trainer)

    def _ready(self, pl_module: LightningModule) -> Prepared | None:
        """Return what `convert` has prepared, if its SNN is still in its place."""
        ready, found = self._prepared, find_spiking_model(pl_module)
        return ready if ready is not None and found is not None and found[1] is ready.snn else None

    def _prepare(
        self, trainer: Trainer, pl_module: LightningModule, communicator: StrategyCommunicator
    ) -> Prepared:
        same_weights(pl_module, communicator)
        network = find_network(pl_module, self.network)
        made = made_images(self.loader, self.inputs, self.pipeline.seed)
        if made is None:
            inputs, loader = self.inputs, calibration_images(trainer, cast(Any, self.loader))()
        else:
            inputs, loader = made.batches(trainer, pl_module, network.ann, communicator)
        recorder = ModuleRecorder(trainer, network, inputs, choose_whole=self.network is None)
        ready = prepare(recorder, loader, self.pipeline)
        self._statistics = InputStatistics.of(ready.batches)
        return ready


def _rebuild_on_loading(trainer: Trainer, module: LightningModule) -> None:
    """Let `module` take the SNN of a checkpoint that the Trainer is about to load into it."""
    vars(module).pop("on_load_checkpoint", None)
    own = module.on_load_checkpoint

    def on_load_checkpoint(checkpoint: dict[str, Any]) -> None:
        path = getattr(trainer, "ckpt_path", None)
        if path is not None and Path(path).is_file():
            # Lightning looks at no checksums, and the SNN's digest is of its own tensors alone.
            check_sums(path)
        rebuild_spiking_model(module, checkpoint)
        own(checkpoint)

    vars(module)["on_load_checkpoint"] = on_load_checkpoint
