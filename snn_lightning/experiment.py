"""What `train.py` and `calibrate.py` share: parts composed from a Hydra config, runs, results."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from snn_lightning.analysis.energy import measure_energy
from snn_lightning.analysis.foretold import cost_report
from snn_lightning.analysis.results import Results, results_table, write_results
from snn_lightning.calibration import Pipeline, convert
from snn_lightning.calibration.data import inputs_of
from snn_lightning.calibration.progress import work_of
from snn_lightning.callbacks import CalibrationCallback
from snn_lightning.errors import CheckpointError, SettingsError, SNNLightningError, known_cause
from snn_lightning.files import read_checkpoint
from snn_lightning.graph import normalise, prepare
from snn_lightning.graph.report import conversion_report
from snn_lightning.spiking.checkpoint import KEY, load_converted
from snn_lightning.spiking.kernels import use_kernel
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.rescale import rescale_to_unit_spikes
from snn_lightning.training import ClassificationModule, FineTuning, load_or_train, load_weights

ACCURACY = "test/acc"
DIGITS = 6
ENERGY_IMAGES = 64


@dataclass
class Experiment:
    """The parts that a config describes.

    Args:
        config: the resolved Hydra config.
        folder: where results go.
    """

    config: dict[str, Any]
    folder: Path
    data: LightningDataModule
    module: ClassificationModule
    trainer: Trainer
    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def compose(cls, config: DictConfig) -> Experiment:
        """Build everything a run needs, and fail now if something is wrong."""
        _refuse_distributed_sweep(config)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning's own business
        seed_everything(config.seed, workers=True, verbose=False)
        plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
        data = instantiate(config.data)
        sizes = {key: getattr(data, key) for key in ("num_classes", "in_channels", "image_size")}
        module = instantiate(config.module, model=plain["model"], **sizes, _convert_="all")
        callbacks = [instantiate(part) for part in (config.callbacks or {}).values()]
        loggers = [instantiate(part) for part in (config.logger or {}).values()]
        trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers or False)
        folder = Path(HydraConfig.get().runtime.output_dir)
        return cls(plain, folder, data, module, trainer, Console(quiet=not trainer.is_global_zero))

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[None]:
        """Announce a phase and take its time."""
        self.console.rule(title, align="left")
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def pretrain(self) -> Path | None:
        """Load the ANN that the config names, or one pretrained earlier, or train it now.

        Returns:
            The checkpoint it came from.
        """
        if self.config["ckpt"] is not None:
            load_weights(self.module, self.config["ckpt"])
            return Path(self.config["ckpt"])
        with self.phase("pretrain", f"Pretraining {self.config['model']['name']} on {self.data_name}"):
            leader = self.trainer.is_global_zero
            kept = load_or_train(self.config["cache_dir"], self.recipe(), self._fit, leader=leader)
            if not kept.trained:
                self.console.print(
                    f"Using the ANN pretrained earlier: {kept.path}", highlight=False, soft_wrap=True
                )
                load_weights(self.module, kept.path)
        return kept.path

    @property
    def data_name(self) -> str:
        """The data group's choice."""
        return str(HydraConfig.get().runtime.choices["data"])

    def recipe(self) -> dict[str, Any]:
        """Return everything that the pretrained weights depend on."""
        keys = ("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches")
        trainer = {key: self.config["trainer"].get(key) for key in keys}
        averaging = {
            k: v for k, v in (self.config["callbacks"] or {}).items() if "Averaging" in v["_target_"]
        }
        unused = ("root", "num_workers", "calibration_images", "calibration_batch_size", "test_images")
        data = {key: value for key, value in self.config["data"].items() if key not in unused}
        parts = {key: self.config[key] for key in ("model", "module", "seed")}
        return {**parts, "data": data, "trainer": trainer, "callbacks": averaging}

    def test(self) -> float:
        """Return the accuracy on the test images of whatever network the module holds."""
        accuracy = self.trainer.test(self.module, datamodule=self.data, verbose=False)[0][ACCURACY]
        over_time = self.accuracy_over_time()
        return over_time[-1] if over_time else round(float(accuracy), DIGITS)

    def finetune(self, config: DictConfig, settings: FineTuning) -> None:
        """Train the module's spiking network on the labelled training images."""
        trainer = instantiate(
            config.trainer, callbacks=[], logger=self.trainer.loggers or False, max_epochs=settings.epochs
        )
        self.module.hparams["learning_rate"] = settings.learning_rate
        trainer.fit(self.module, datamodule=self.data)
        if trainer.interrupted:
            raise SNNLightningError("The training of the SNN was interrupted; run the same command again.")

    def accuracy_over_time(self) -> list[float] | None:
        """Return the accuracy of the last test after each time step; None for an ANN."""
        fractions = self.module.accuracy_over_time
        return [round(fraction, DIGITS) for fraction in fractions] if fractions else None

    def save(self, path: Path) -> None:
        """Save the module as a Lightning checkpoint, whole or not at all; called on every process."""
        part = path.with_name(f".{path.name}.part")
        try:
            self.trainer.save_checkpoint(part, weights_only=True)
            if self.trainer.is_global_zero:
                os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(
                f"Could not write '{path}' ({error.strerror or error}); what was there before is unchanged. "
                "Free some space, or choose another folder with hydra.run.dir=..., then run the same command "
                "again."
            ) from error

    def _fit(self, path: Path) -> None:
        self.trainer.fit(self.module, datamodule=self.data)
        if self.trainer.interrupted:
            raise SNNLightningError(
                "Pretraining was interrupted; nothing was kept. Run the same command again."
            )
        # Their average is in the network now, and must not be swapped into it again.
        others = [c for c in self.trainer.callbacks if not isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
        self.trainer.callbacks = others  # type: ignore[attr-defined]
        self.trainer.save_checkpoint(path, weights_only=True)


def run(task: Callable[[DictConfig], object], config: DictConfig) -> None:
    """Run a task; of an error that was raised on purpose, show the message and not Hydra's way to it."""
    try:
        with use_kernel(config.kernel):
            task(config)
    except Exception as error:
        cause = known_cause(error)
        if cause is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            # Said at once; Hydra lets the other jobs run, and raises the error when the sweep has ended.
            logging.getLogger(__name__).error("This job failed: %s", cause)
            raise cause.with_traceback(None) from None
        sys.exit(f"Error: {cause}")
    finally:
        # Left open, a W&B run would swallow those of the sweep's later jobs.
        if (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
            wandb.finish()


def train(config: DictConfig) -> Results:
    """Pretrain an ANN and test it."""
    experiment = Experiment.compose(config)
    path = experiment.pretrain()
    with experiment.phase("ann_test", "Testing the ANN"):
        accuracy = experiment.test()
    results = _results(experiment, ann_accuracy=accuracy, checkpoint=str(path))
    _report(experiment, results)
    return results


def calibrate(config: DictConfig) -> Results | None:
    """Pretrain or load an ANN, convert, calibrate, test and save; with an SNN's checkpoint only test it."""
    pipeline = cast(Pipeline, instantiate(config.pipeline))
    finetune = cast(FineTuning, instantiate(config.finetune))
    experiment = Experiment.compose(config)
    if finetune.epochs and experiment.trainer.world_size > 1:
        raise SettingsError(
            "finetune.epochs trains on one process: set trainer.devices=1, or finetune.epochs=0"
        )
    if config.dry_run:
        report = conversion_report(
            experiment.module.net, _sample(experiment), pipeline.max_pooling, pipeline.convert_avg_pool
        )
        experiment.console.print(str(report), highlight=False, markup=False, soft_wrap=True)
        if not report.convertible:
            sys.exit(1)
        experiment.console.print(
            _cost_report(experiment, pipeline), highlight=False, markup=False, soft_wrap=True
        )
        return None
    if config.ckpt is not None and KEY in (checkpoint := read_checkpoint(config.ckpt)):
        return _test_only(experiment, checkpoint.get("hyper_parameters", {}))
    module, trainer = experiment.module, experiment.trainer
    # What can't be converted or calibrated is said before hours of pretraining.
    pooling: dict[str, Any] = {
        "max_pooling": pipeline.max_pooling,
        "convert_avg_pool": pipeline.convert_avg_pool,
    }
    convert(module.net, _sample(experiment)[:2], 1, threshold=pipeline.threshold, **pooling)
    pipeline.check_images(len(_calibration_loader(experiment).dataset))
    path = experiment.pretrain()
    with experiment.phase("ann_test", "Testing the ANN"):
        ann_accuracy = experiment.test()
    ann = module.net
    with experiment.phase("uncalibrated_test", f"Testing the uncalibrated SNN, T={pipeline.timesteps}"):
        module.net = convert(
            ann.cpu(),
            _sample(experiment),
            pipeline.timesteps,
            neuron=pipeline.neuron,
            **pooling,
        )
        experiment.console.print(module.net.report.summary, highlight=False)
        uncalibrated_accuracy = experiment.test()
    module.net = ann
    partial = Path(config.cache_dir) / "partial"
    callback = CalibrationCallback(pipeline, network="net", partial=partial, keep_partial=True)
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]
    title = f"Calibrating and testing the SNN, pipeline {config.pipeline_name}, T={pipeline.timesteps}"
    with experiment.phase("snn_test", title):
        snn_accuracy = experiment.test()
    both = experiment.seconds.pop("snn_test")
    experiment.seconds["calibration"] = round(callback.seconds, 2)
    experiment.seconds["snn_test"] = round(both - callback.seconds, 2)
    converted_accuracy = snn_accuracy if finetune.epochs else None
    if finetune.epochs:
        with experiment.phase(
            "finetune", f"Training the SNN with surrogate gradients, {finetune.epochs} epochs"
        ):
            experiment.finetune(config, finetune)
        with experiment.phase("finetuned_test", "Testing the trained SNN"):
            snn_accuracy = experiment.test()
    if config.unit_spikes:
        module.net = rescale_to_unit_spikes(cast(SpikingModel, module.net))
        with experiment.phase("unit_spikes_test", "Testing the SNN rescaled to {0, 1} spikes"):
            snn_accuracy = experiment.test()
    experiment.save(experiment.folder / "snn.ckpt")
    callback.remove_partial(trainer)
    results = _results(
        experiment,
        ann_accuracy=ann_accuracy,
        uncalibrated_accuracy=uncalibrated_accuracy,
        converted_accuracy=converted_accuracy,
        snn_accuracy=snn_accuracy,
        accuracy_over_time=experiment.accuracy_over_time(),
        **_energy(experiment),
        timesteps=pipeline.timesteps,
        pipeline=config.pipeline_name,
        checkpoint=str(path),
        stages=callback.records,
    )
    _report(experiment, results)
    return results


def _test_only(experiment: Experiment, saved: dict[str, Any]) -> Results:
    """Test the SNN of a checkpoint.

    Args:
        experiment: the run.
        saved: the settings of the module that the checkpoint was written from.
    """
    path, module = experiment.config["ckpt"], experiment.module
    for key in ("in_channels", "num_classes"):
        if saved.get(key) not in (None, module.hparams[key]):
            raise CheckpointError(
                f"The SNN of '{path}' has {key}={saved[key]}, and {experiment.data_name} has "
                f"{module.hparams[key]}: set data to what it was trained with, or give another checkpoint."
            )
    module.net = snn = load_converted(path)
    timesteps, model = snn.timesteps, saved.get("model", experiment.config["model"])
    with experiment.phase("snn_test", f"Testing the SNN of {path}, T={timesteps}"):
        accuracy = experiment.test()
    results = _results(
        experiment,
        model=model["name"],
        snn_accuracy=accuracy,
        accuracy_over_time=experiment.accuracy_over_time(),
        **_energy(experiment),
        timesteps=timesteps,
        checkpoint=path,
    )
    _report(experiment, results)
    return results


def _calibration_loader(experiment: Experiment) -> Any:
    experiment.data.prepare_data()
    experiment.data.setup("fit")
    return experiment.data.calibration_dataloader()  # type: ignore[attr-defined]


def _sample(experiment: Experiment) -> torch.Tensor:
    """Return the first batch of calibration images."""
    return inputs_of(next(iter(_calibration_loader(experiment))))


@torch.random.fork_rng()
def _cost_report(experiment: Experiment, pipeline: Pipeline) -> str:
    """Say what calibrating and testing will cost on this machine."""
    trainer = experiment.trainer
    sample = _sample(experiment)[:8]
    device = trainer.strategy.root_device
    network = normalise(experiment.module.net, sample)
    network = prepare(network, sample, pipeline.max_pooling, pipeline.convert_avg_pool).to(device)
    work = work_of(pipeline, len(_calibration_loader(experiment).dataset), trainer.world_size)
    experiment.data.setup("test")
    tested = work.share(len(experiment.data.test_dataloader().dataset))
    return cost_report(network, sample.to(device), work, tested, pipeline.neuron)


def _energy(experiment: Experiment) -> Results:
    """Count the spikes of the SNN on the first test images."""
    snn = cast(SpikingModel, experiment.module.net)
    images = inputs_of(next(iter(experiment.data.test_dataloader())))[:ENERGY_IMAGES]
    return measure_energy(snn, images.to(next(snn.parameters()).device)).results()


def _results(experiment: Experiment, **values: Any) -> Results:
    config = experiment.config
    head = {"model": config["model"]["name"], "data": experiment.data_name, "seed": config["seed"]}
    return Results({**head, **values, "seconds": experiment.seconds, "config": config})


def _report(experiment: Experiment, results: Results) -> None:
    if experiment.trainer.is_global_zero:
        path = experiment.folder / "results.json"
        write_results(path, results)
        experiment.console.print(results_table(results), highlight=False)
        experiment.console.print(f"Results: {experiment.folder}", highlight=False, soft_wrap=True)


def _refuse_distributed_sweep(config: DictConfig) -> None:
    several = config.trainer.devices not in (1, "1", [0]) or config.trainer.get("num_nodes", 1) != 1
    if HydraConfig.get().mode == RunMode.MULTIRUN and (several or "ddp" in str(config.trainer.strategy)):
        raise SettingsError(
            "A sweep (-m) can't run distributed jobs: each process would start the whole sweep again. Set "
            "trainer.devices=1 trainer.strategy=auto for the sweep, or run the jobs one by one without -m."
        )
