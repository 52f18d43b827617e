"""What `train.py` and `calibrate.py` share: compose the parts from a Hydra config, run them, write results."""

from __future__ import annotations

import os
import time
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

from snn_lightning.analysis.results import Results, results_table, write_results
from snn_lightning.calibration import Pipeline, convert
from snn_lightning.calibration.data import inputs_of
from snn_lightning.callbacks import CalibrationCallback
from snn_lightning.errors import CheckpointError, SettingsError, SNNLightningError
from snn_lightning.files import read_checkpoint
from snn_lightning.graph import normalise
from snn_lightning.graph.report import conversion_report
from snn_lightning.spiking.checkpoint import KEY, rebuild_spiking_model
from snn_lightning.training import ClassificationModule, load_or_train, load_weights

ACCURACY = "test/acc"


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
        label = f"{self.config['model']['name']} on {self.data.name}"  # type: ignore[attr-defined]
        with self.phase("pretrain", f"Pretraining {label}"):
            leader = self.trainer.is_global_zero
            kept = load_or_train(self.config["cache_dir"], self.recipe(), self._fit, leader=leader)
            if not kept.trained:
                self.console.print(f"Using the ANN pretrained earlier: {kept.path}")
                load_weights(self.module, kept.path)
        return kept.path

    def recipe(self) -> dict[str, Any]:
        """Return everything that the pretrained weights depend on."""
        keys = ("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches")
        trainer = {key: self.config["trainer"].get(key) for key in keys}
        averaging = {k: v for k, v in (self.config["callbacks"] or {}).items() if "Averaging" in v["_target_"]}
        unused = ("root", "num_workers", "calibration_images", "calibration_batch_size", "test_images")
        data = {key: value for key, value in self.config["data"].items() if key not in unused}
        parts = {key: self.config[key] for key in ("model", "module", "seed")}
        return {**parts, "data": data, "trainer": trainer, "callbacks": averaging}

    def test(self) -> float:
        """Return the accuracy on the test images of whatever network the module holds."""
        return float(self.trainer.test(self.module, datamodule=self.data, verbose=False)[0][ACCURACY])

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
                f"Could not write '{path}' ({error.strerror or error}); what was there before is unchanged. Free some "
                "space, or choose another folder with hydra.run.dir=..., then run the same command again."
            ) from error

    def _fit(self, path: Path) -> None:
        self.trainer.fit(self.module, datamodule=self.data)
        if self.trainer.interrupted:
            raise SNNLightningError("Pretraining was interrupted; nothing was kept. Run the same command again.")
        # Their average is in the network now, and must not be swapped into it again.
        others = [c for c in self.trainer.callbacks if not isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
        self.trainer.callbacks = others  # type: ignore[attr-defined]
        self.trainer.save_checkpoint(path, weights_only=True)


def run(task: Callable[[DictConfig], object], config: DictConfig) -> None:
    """Run a task; of an error that was raised on purpose, show the message rather than how Hydra came across it."""
    try:
        task(config)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SNNLightningError):
            cause = cause.__cause__
        if cause is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise cause.with_traceback(None) from None


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
    experiment = Experiment.compose(config)
    if config.dry_run:
        sample = _sample(experiment)
        experiment.console.print(str(conversion_report(experiment.module.net, sample)), highlight=False, soft_wrap=True)
        return None
    if config.ckpt is not None and KEY in (checkpoint := read_checkpoint(config.ckpt)):
        return _test_only(experiment, checkpoint)
    module, trainer = experiment.module, experiment.trainer
    normalise(module.net, _sample(experiment)[:2])  # what can't be converted is said before hours of pretraining
    path = experiment.pretrain()
    with experiment.phase("ann_test", "Testing the ANN"):
        ann_accuracy = experiment.test()
    ann = module.net
    with experiment.phase("uncalibrated_test", f"Testing the uncalibrated SNN, T={pipeline.timesteps}"):
        options = {"max_pooling": pipeline.max_pooling, "convert_avg_pool": pipeline.convert_avg_pool}
        module.net = convert(ann.cpu(), _sample(experiment), pipeline.timesteps, **options)
        uncalibrated_accuracy = experiment.test()
    module.net = ann
    callback = CalibrationCallback(pipeline, network="net", partial=Path(config.cache_dir) / "partial")
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]
    title = f"Calibrating and testing the SNN, pipeline {type(pipeline).__name__}, T={pipeline.timesteps}"
    with experiment.phase("snn_test", title):
        snn_accuracy = experiment.test()
    experiment.seconds["calibration"] = round(callback.seconds, 2)
    experiment.seconds["snn_test"] = round(experiment.seconds["snn_test"] - callback.seconds, 2)
    experiment.save(experiment.folder / "snn.ckpt")
    results = _results(
        experiment,
        ann_accuracy=ann_accuracy,
        uncalibrated_accuracy=uncalibrated_accuracy,
        snn_accuracy=snn_accuracy,
        accuracy_over_time=module.accuracy_over_time,
        timesteps=pipeline.timesteps,
        pipeline=config.pipeline_name,
        checkpoint=str(path),
        stages=callback.records,
    )
    _report(experiment, results)
    return results


def _test_only(experiment: Experiment, checkpoint: dict[str, Any]) -> Results:
    """Test the SNN of a checkpoint."""
    module = experiment.module
    rebuild_spiking_model(module, checkpoint)
    load_weights(module, experiment.config["ckpt"])
    timesteps = cast(Any, module.net).timesteps
    with experiment.phase("snn_test", f"Testing the SNN of {experiment.config['ckpt']}, T={timesteps}"):
        accuracy = experiment.test()
    results = _results(
        experiment,
        snn_accuracy=accuracy,
        accuracy_over_time=module.accuracy_over_time,
        timesteps=timesteps,
        checkpoint=experiment.config["ckpt"],
    )
    _report(experiment, results)
    return results


def _sample(experiment: Experiment) -> torch.Tensor:
    """Return the first batch of calibration images."""
    experiment.data.prepare_data()
    experiment.data.setup("fit")
    loader = experiment.data.calibration_dataloader()  # type: ignore[attr-defined]
    return inputs_of(next(iter(loader)))


def _results(experiment: Experiment, **values: Any) -> Results:
    config = experiment.config
    head = {"model": config["model"]["name"], "data": experiment.data.name, "seed": config["seed"]}  # type: ignore[attr-defined]
    return Results({**head, **values, "seconds": experiment.seconds, "config": config})


def _report(experiment: Experiment, results: Results) -> None:
    if experiment.trainer.is_global_zero:
        path = experiment.folder / "results.json"
        write_results(path, results)
        experiment.console.print(results_table(results))
        experiment.console.print(f"Results: {experiment.folder}", highlight=False, soft_wrap=True)


def _refuse_distributed_sweep(config: DictConfig) -> None:
    several = config.trainer.devices not in (1, "1", [0]) or config.trainer.get("num_nodes", 1) != 1
    if HydraConfig.get().mode == RunMode.MULTIRUN and (several or "ddp" in str(config.trainer.strategy)):
        raise SettingsError(
            "A sweep (-m) can't run distributed jobs: each process would start the whole sweep again. Set "
            "trainer.devices=1 trainer.strategy=auto for the sweep, or run the jobs one by one without -m."
        )
