"""What `train.py` and `calibrate.py` do: pretrain, convert, calibrate, test, and write results."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from snn_lightning.analysis.activity import measure_activity
from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.analysis.parameters import parameter_bytes
from snn_lightning.analysis.results import Results, seconds_by_step
from snn_lightning.calibration import Pipeline
from snn_lightning.calibration.budget import BudgetResult
from snn_lightning.callbacks import CalibrationCallback, log_report
from snn_lightning.cli.checks import ENERGY, check, dry_run, named, over_time
from snn_lightning.cli.experiment import Experiment
from snn_lightning.cli.figures import save_figures
from snn_lightning.cli.metric import check_metric, main_score, metric
from snn_lightning.cli.outputs import results_of, save_page, save_results
from snn_lightning.cli.search import (
    Plan,
    config_found,
    part_of,
    plan_of,
    results_of_search,
    save_search,
    search_snn,
)
from snn_lightning.cli.sources import calibration_loader, contact_sheet
from snn_lightning.cli.sweeps import forget_job, is_left_out
from snn_lightning.errors import CalibrationError, CheckpointError, SettingsError, known_cause
from snn_lightning.files import read_checkpoint
from snn_lightning.spiking.checkpoint import (
    KEY,
    find_spiking_model,
    load_converted,
    place,
    rebuild_spiking_model,
)
from snn_lightning.spiking.kernels import use_kernel
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.unit_spikes import rescale_to_unit_spikes
from snn_lightning.training import FineTuning, load_weights

ENERGY_IMAGES = 64

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C has ended, in every shell."""


def run(task: Callable[[DictConfig], Results | None], config: DictConfig) -> float | None:
    """Run a task; of an error that was raised on purpose, show the message and not Hydra's way to it.

    Returns:
        The number of its results that `optimized_metric` names; None after a dry run.
    """
    try:
        if is_left_out(config):
            logging.getLogger(__name__).info("Nothing to do: leave_out has this combination")
            forget_job()
            return None
        with use_kernel(config.kernel):
            results = task(config)
        return None if results is None else metric(results, config.optimized_metric or main_score(results))
    except KeyboardInterrupt:
        print("Interrupted. What was finished is kept: the same command goes on after it.", file=sys.stderr)
        sys.exit(INTERRUPTED)
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
            _finish(wandb)


def _finish(wandb: Any) -> None:
    """End a W&B run; results that it can't take are in the job's folder."""
    try:
        wandb.finish()
    except Exception as error:
        logging.getLogger(__name__).warning(
            "W&B could not end its run (%s: %s): it may lack what was logged last. All of it is in the "
            "job's folder.",
            type(error).__name__,
            error,
        )


def train(config: DictConfig) -> Results:
    """Pretrain an ANN and test it."""
    experiment = Experiment.compose(config)
    check_metric(experiment.config, named(experiment, "ann"), ["ann_test"])
    path = experiment.pretrain()
    scores = _test(experiment, "ann_test", "Testing the ANN")
    results = results_of(experiment, **_keyed("ann", scores), checkpoint=str(path))
    save_results(experiment, results)
    return results


def calibrate(config: DictConfig) -> Results | None:
    """Pretrain or load an ANN, convert, calibrate, test and save; with an SNN's checkpoint only test it."""
    pipeline = cast(Pipeline, instantiate(config.pipeline))
    finetune = cast(FineTuning, instantiate(config.finetune))
    prices = cast(EnergyModel, instantiate(config.energy))
    plan = plan_of(config, prices)
    saved = _spiking_checkpoint(config)
    if plan is not None and saved is not None:
        raise SettingsError(
            f"max_drop starts from an ANN, and ckpt={config.ckpt} holds an SNN: leave one out"
        )
    callback = CalibrationCallback(
        pipeline,
        network="net" if config.network is None else f"net.{config.network}",
        partial=Path(config.cache_dir) / "partial",
        keep_partial=True,
        automatic=False,
    )
    experiment = Experiment.compose(config, [] if config.dry_run or saved is not None else [callback])
    if finetune.epochs and experiment.trainer.world_size > 1:
        raise SettingsError(
            "finetune.epochs trains on one process: set trainer.devices=1, or finetune.epochs=0"
        )
    if config.dry_run:
        dry_run(experiment, pipeline)
        return None
    if saved is not None:
        return _test_only(experiment, saved, prices)
    check(experiment, pipeline, finetune, plan)
    path, ann = experiment.pretrain(), experiment.network
    scores, found = _scores(experiment, callback, config, finetune, plan)
    experiment.save(experiment.folder / "snn.ckpt")
    callback.remove_partial(experiment.trainer)
    images = experiment.test_images(ENERGY_IMAGES)
    # Its stages have the ANN's weights; those of rescaled ones can't be compared.
    before = None if config.unit_spikes else cast(SpikingModel, experiment.uncalibrated).network
    activity = measure_activity(experiment.snn, images, ann=before, model=prices)
    results = results_of(
        experiment,
        **scores,
        **experiment.over_time(),
        **activity.energy.results(),
        timesteps=callback.pipeline.timesteps,
        latency_steps=experiment.snn.latency_steps,
        pipeline=experiment.config["pipeline_name"],
        data_source=config.data_source,
        calibration_images=experiment.calibration_images.counts,
        checkpoint=str(path),
        parameter_bytes=parameter_bytes(experiment.snn, cast(SpikingModel, experiment.uncalibrated)),
        stages=callback.records,
        seconds_by_step=seconds_by_step(callback.records),
        **({} if found is None else results_of_search(found)),
    )
    save_results(experiment, results)
    # Rescaled activations can't be compared with the ANN's.
    ann_of_page = None if config.unit_spikes else ann
    save_page(experiment, results, activity, images, ann_of_page, contact_sheet(experiment))
    save_figures(experiment, ann)
    if found is not None:
        save_search(experiment, found)
    log_report(experiment.trainer.loggers, experiment.folder)
    if found is not None and not found.met:
        raise CalibrationError(found.summary)
    return results


def _scores(
    experiment: Experiment,
    callback: CalibrationCallback,
    config: DictConfig,
    finetune: FineTuning,
    plan: Plan | None,
) -> tuple[dict[str, float], BudgetResult | None]:
    """Take the ANN through all phases to the finished SNN; returns the scores on the way, and the search."""
    ann, found = _test(experiment, "ann_test", "Testing the ANN"), None
    if plan is None:
        uncalibrated = _test_uncalibrated(experiment, callback)
        _calibrate(experiment, callback)
    else:
        found = search_snn(experiment, callback, plan)
        experiment.config |= config_found(config, found)
        part = part_of(experiment, callback)
        part.replace(cast(SpikingModel, experiment.uncalibrated))
        title = f"Testing the uncalibrated SNN, T={callback.pipeline.timesteps}"
        uncalibrated = _test(experiment, "uncalibrated_test", title)
        part.replace(cast(SpikingModel, found.snn))
    snn = _test(experiment, "snn_test", f"Testing the SNN, T={callback.pipeline.timesteps}")
    scores = {**_keyed("ann", ann), **_keyed("uncalibrated", uncalibrated)}
    if finetune.epochs:
        scores |= _keyed("converted", snn)
        snn = _finetune(experiment, config, finetune)
    if config.unit_spikes:
        snn = _test_unit_spikes(experiment)
    return {**scores, **_keyed("snn", snn)}, found


def _keyed(network: str, scores: dict[str, float]) -> dict[str, float]:
    """Return a network's scores under their names in the results."""
    return {f"{network}_{name}": value for name, value in scores.items()}


def _test(experiment: Experiment, phase: str, title: str) -> dict[str, float]:
    """Return the scores of whatever network there is."""
    with experiment.phase(phase, title):
        return experiment.test()


def _test_uncalibrated(experiment: Experiment, callback: CalibrationCallback) -> dict[str, float]:
    """Convert the ANN, and return the scores of the SNN as it is then."""
    callback.loader = calibration_loader(experiment)
    with experiment.phase(
        "uncalibrated_test", f"Testing the uncalibrated SNN, T={callback.pipeline.timesteps}"
    ):
        callback.convert(experiment.trainer, experiment.module)
        experiment.uncalibrated = experiment.snn
        experiment.say(experiment.snn.report.summary)
        return experiment.test()


def _calibrate(experiment: Experiment, callback: CalibrationCallback) -> None:
    """Calibrate the SNN."""
    name, timesteps = experiment.config["pipeline_name"], callback.pipeline.timesteps
    with experiment.phase("calibration", f"Calibrating the SNN, pipeline {name}, T={timesteps}"):
        callback.calibrate(experiment.trainer, experiment.module)


def _finetune(experiment: Experiment, config: DictConfig, settings: FineTuning) -> dict[str, float]:
    """Train the SNN, and return its scores."""
    title = f"Training the SNN with surrogate gradients, {settings.epochs} epochs"
    with experiment.phase("finetune", title):
        experiment.finetune(config, settings)
    return _test(experiment, "finetuned_test", "Testing the trained SNN")


def _test_unit_spikes(experiment: Experiment) -> dict[str, float]:
    """Let the SNN fire whole numbers, and return its scores."""
    path, snn = cast(tuple[str, SpikingModel], find_spiking_model(experiment.module))
    place(experiment.module, rescale_to_unit_spikes(snn), [path])
    return _test(experiment, "unit_spikes_test", "Testing the SNN rescaled to {0, 1} spikes")


def _spiking_checkpoint(config: DictConfig) -> dict[str, Any] | None:
    """Return the settings of the module that `config.ckpt` was written from, if it holds an SNN.

    Its model takes the place of the config's, of which nothing is asked.
    """
    if config.ckpt is None or config.dry_run or KEY not in (checkpoint := read_checkpoint(config.ckpt)):
        return None
    saved = cast(dict[str, Any], checkpoint.get("hyper_parameters", {}))
    if "model" in saved:
        with open_dict(config):
            config.model = saved["model"]
    path = checkpoint[KEY]["attribute"]
    config.network = path.removeprefix("net.") if path.startswith("net.") else None
    return saved


def _test_only(experiment: Experiment, saved: dict[str, Any], prices: EnergyModel) -> Results:
    """Test the SNN of a checkpoint.

    Args:
        experiment: the run.
        saved: the settings of the module that the checkpoint was written from.
        prices: of the energy.
    """
    path, module = experiment.config["ckpt"], experiment.module
    for key in ("in_channels", "num_classes", "class_names"):
        if None not in (saved.get(key), module.hparams[key]) and saved[key] != module.hparams[key]:
            raise CheckpointError(
                f"The SNN of '{path}' has {key}={saved[key]}, and {experiment.data_name} has "
                f"{module.hparams[key]}: set data to what it was trained with, or give another checkpoint."
            )
    if experiment.config["network"] is None:
        module.net = load_converted(path, ann=module.net)
    else:
        rebuild_spiking_model(module, read_checkpoint(path))
        load_weights(module, path)
    timesteps, model = experiment.snn.timesteps, saved.get("model", experiment.config["model"])
    names = [*named(experiment, "snn"), *ENERGY]
    check_metric(experiment.config, names, ["snn_test"], over_time(experiment, timesteps))
    scores = _test(experiment, "snn_test", f"Testing the SNN of {path}, T={timesteps}")
    images = experiment.test_images(ENERGY_IMAGES)
    activity = measure_activity(experiment.snn, images, model=prices)
    results = results_of(
        experiment,
        model=model["name"],
        **_keyed("snn", scores),
        **experiment.over_time(),
        **activity.energy.results(),
        timesteps=timesteps,
        latency_steps=experiment.snn.latency_steps,
        checkpoint=path,
    )
    save_results(experiment, results)
    save_page(experiment, results, activity, images)
    log_report(experiment.trainer.loggers, experiment.folder)
    return results
