"""What `train.py` and `calibrate.py` do: pretrain, convert, calibrate, test, and write results."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from torch import nn
from torch.utils.data import DataLoader

from snn_lightning.analysis.activity import measure_activity
from snn_lightning.analysis.cost.report import cost_report
from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.analysis.parameters import KINDS, parameter_bytes
from snn_lightning.analysis.results import Results, seconds_by_step
from snn_lightning.calibration import Pipeline
from snn_lightning.calibration.api import prepared, spiking
from snn_lightning.calibration.budget import BudgetResult
from snn_lightning.callbacks import CalibrationCallback, log_report
from snn_lightning.cli.experiment import Experiment
from snn_lightning.cli.figures import check_figures, save_figures
from snn_lightning.cli.metric import check_metric, main_score, metric
from snn_lightning.cli.outputs import results_of, save_page, save_results
from snn_lightning.cli.search import (
    Plan,
    check_plan,
    part_of,
    plan_of,
    results_of_search,
    save_search,
    search_snn,
)
from snn_lightning.cli.sources import calibration_loader, check_source, contact_sheet, synthesis_cost
from snn_lightning.cli.sweeps import forget_job, is_left_out
from snn_lightning.errors import CalibrationError, CheckpointError, SettingsError, known_cause
from snn_lightning.files import read_checkpoint
from snn_lightning.graph.parts import find_part
from snn_lightning.graph.report import conversion_report
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

SAMPLE = 8
"""Images on which a conversion is checked."""

ENERGY_IMAGES = 64
RATIOS = ["energy_ratio", "energy_ratio_zero_skipping"]
ENERGY = ["spikes_per_image", "firing_rate", "synaptic_operations", *RATIOS]


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
    check_metric(experiment.config, _named(experiment, "ann"), ["ann_test"])
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
        _dry_run(experiment, pipeline)
        return None
    if saved is not None:
        return _test_only(experiment, saved, prices)
    _check(experiment, pipeline, finetune, plan)
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
        pipeline=config.pipeline_name if found is None else found.best.pipeline,
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


def _named(experiment: Experiment, *networks: str) -> list[str]:
    """Return the names that the scores of networks have in the results."""
    return [f"{network}_{name}" for network in networks for name in experiment.module.SCORES]


def _dry_run(experiment: Experiment, pipeline: Pipeline) -> None:
    """Say what would convert, and what calibrating and testing would cost."""
    check_source(experiment)
    part, sample = _sample(experiment)
    report = conversion_report(part, sample, pipeline)
    experiment.say(str(report))
    if not report.convertible:
        sys.exit(1)
    experiment.say(_cost_report(experiment, pipeline, part, sample))
    if cost := synthesis_cost(experiment):
        experiment.say(cost)


def _check(experiment: Experiment, pipeline: Pipeline, finetune: FineTuning, plan: Plan | None) -> None:
    """Say what can't be measured, calibrated or converted before hours of pretraining."""
    tried = [pipeline] if plan is None else [candidate.pipeline for candidate in plan.candidates]
    _check_metric(experiment, min(tried, key=lambda one: one.timesteps), finetune, plan)
    check_figures(experiment)
    find_part(experiment.module.net, experiment.config["network"] or "")
    if plan is not None:
        check_plan(experiment, plan)
    check_source(experiment)
    for one in tried:
        one.check_images(len(experiment.calibration_images))
    if experiment.will_train:
        part, sample = _sample(experiment)
        for one in tried:
            spiking(prepared(part, [sample[:2]], one), sample[:2], one)


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
    names = [*_named(experiment, "snn"), *ENERGY]
    check_metric(experiment.config, names, ["snn_test"], _over_time(experiment, timesteps))
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


def _check_metric(
    experiment: Experiment, pipeline: Pipeline, finetune: FineTuning, plan: Plan | None
) -> None:
    names = [*_named(experiment, "ann", "uncalibrated", "snn"), *ENERGY]
    phases = ["ann_test", "uncalibrated_test", "calibration", "snn_test"]
    if plan is not None:
        names.append("max_drop")
        phases += ["ann_validation", "search"]
    names += [f"parameter_bytes.{kind}" for kind in KINDS]
    names += [f"calibration_images.{part}" for part in experiment.source.names]
    if "synthetic" in experiment.source.names:
        phases.append("synthesis")
    if finetune.epochs:
        names += _named(experiment, "converted")
        phases += ["finetune", "finetuned_test"]
    if experiment.config["unit_spikes"]:
        phases.append("unit_spikes_test")
    check_metric(experiment.config, names, phases, _over_time(experiment, pipeline.timesteps))


def _over_time(experiment: Experiment, timesteps: int) -> dict[str, int]:
    """Return which results of an SNN of T time steps are lists, and how long they are."""
    module, whole = experiment.module, experiment.config["network"] is None
    times = module.steps_scored(timesteps, whole)
    names = [f"{name}_over_time" for name in module.SCORES]
    return dict.fromkeys(names if len(times) == timesteps else [*names, "times"], len(times))


def _dataset(loader: DataLoader[Any]) -> Sized:
    return cast(Sized, loader.dataset)


def _sample(experiment: Experiment) -> tuple[nn.Module, torch.Tensor]:
    """Return the part that will spike, and what it receives of the first calibration images, `[N, ...]`."""
    batch = next(iter(experiment.calibration_images.sample()))
    experiment.module.check_batch(batch)
    part, inputs = experiment.part(batch)
    return part, inputs[:SAMPLE]


@torch.random.fork_rng()
def _cost_report(experiment: Experiment, pipeline: Pipeline, part: nn.Module, sample: torch.Tensor) -> str:
    """Say what calibrating and testing will cost on this machine."""
    trainer = experiment.trainer
    device = trainer.strategy.root_device
    network = prepared(part, [sample], pipeline).to(device)
    given = len(experiment.calibration_images)
    work = pipeline.decided([sample], given).work(given, trainer.world_size)
    experiment.data.setup("test")
    tested = work.share(len(_dataset(experiment.data.test_dataloader())))
    whole = experiment.config["network"] is None
    simulations = experiment.module.simulations(pipeline.timesteps, whole)
    return cost_report(network, sample.to(device), work, tested, pipeline.neuron, simulations)
