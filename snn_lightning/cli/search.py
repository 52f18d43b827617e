"""Choose the time steps, and on request the pipeline and the neurons, on the validation images."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.analysis.trials import trials_csv, trials_table
from snn_lightning.calibration import Pipeline
from snn_lightning.calibration.budget.kept import Kept
from snn_lightning.calibration.budget.search import BudgetResult, check_candidates, search
from snn_lightning.calibration.budget.settings import Budget, Candidate
from snn_lightning.calibration.recording import Part
from snn_lightning.calibration.walk.observer import RichObserver
from snn_lightning.calibration.walk.records import StageRecord
from snn_lightning.callbacks import CalibrationCallback
from snn_lightning.callbacks.observer import LoggingObserver
from snn_lightning.cli.experiment import Experiment
from snn_lightning.cli.sources import calibration_loader
from snn_lightning.errors import SettingsError
from snn_lightning.files import write_atomically
from snn_lightning.report.figures import plot_search, save_figure
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.training import fingerprint

AXES = ("neuron", "pipeline", "T")
OWN = ("objective", "candidates")
"""Settings of a search alone."""

SHARED = ("model", "module", "data")
"""Groups that all candidates have in common: they start from one ANN and its calibration images."""


@dataclass(frozen=True)
class Plan:
    """What a config lets a run search for.

    Args:
        budget: the bound and the objective.
        candidates: what may be tried.
    """

    budget: Budget
    candidates: tuple[Candidate, ...]


def plan_of(config: DictConfig, prices: EnergyModel) -> Plan | None:
    """Return what the config's `max_drop` asks for; None without it.

    Args:
        config: of the run.
        prices: of the energy.

    Raises:
        SettingsError: a setting makes no sense or goes with another, or the candidates start from different
            ANNs.
    """
    given = [name for name, _, _ in (text.partition("=") for text in HydraConfig.get().overrides.task)]
    if config.max_drop is None:
        for name in given:
            if name.partition(".")[0] in OWN:
                raise SettingsError(f"{name} is of a search: set max_drop too, or leave {name} out")
        return None
    if "T" in given:
        raise SettingsError(
            f"max_drop looks for T, and T={config.T} is given: leave T out, or set candidates.T=[{config.T}]"
        )
    budget = Budget(config.max_drop, config.objective, energy=prices)
    plan = Plan(budget, tuple(_candidates(config)))
    check_candidates(plan.candidates)
    return plan


def _candidates(config: DictConfig) -> Iterator[Candidate]:
    axes = cast(dict[str, Any], OmegaConf.to_container(config.candidates, resolve=True))
    for axis in AXES:
        if not isinstance(axes[axis], list) or not axes[axis]:
            raise SettingsError(
                f"candidates.{axis} must be a list with at least one value, got {axes[axis]!r}"
            )
    for neuron, pipeline in product(axes["neuron"], axes["pipeline"]):
        chosen = _composed(config, f"neuron={neuron}", f"pipeline={pipeline}")
        for timesteps in axes["T"]:
            chosen.T = timesteps
            yield Candidate(cast(Pipeline, instantiate(chosen.pipeline)), pipeline, neuron)


def _composed(config: DictConfig, *choices: str) -> DictConfig:
    """Return the config of this job with other choices of `pipeline` and `neuron`."""
    given = [text for text in HydraConfig.get().overrides.task if text.partition("=")[0] not in AXES]
    try:
        composed = compose(str(HydraConfig.get().job.config_name), [*given, *choices])
    except HydraException as error:
        raise SettingsError(f"The candidate {' '.join(choices)} can't be composed: {error}") from error
    for group in SHARED:
        mine, other = (OmegaConf.to_container(one[group], resolve=True) for one in (config, composed))
        if mine != other:
            raise SettingsError(
                f"The candidate {' '.join(choices)} has another {group} than this run, and all candidates "
                "start from one ANN and its calibration images: search with it in a run of its own"
            )
    return composed


def check_plan(experiment: Experiment, plan: Plan) -> None:
    """Say before hours of pretraining what the search lacks.

    Raises:
        SettingsError: there are several processes, or no validation images.
    """
    if experiment.trainer.world_size > 1:
        raise SettingsError("max_drop searches on one process: set trainer.devices=1, or leave max_drop out")
    loader = experiment.validation_loader
    if loader is None or not len(loader):
        raise SettingsError(
            f"max_drop needs validation images, and {experiment.data_name} has none: raise "
            "data.val_fraction, or give the data a validation set"
        )


def search_snn(experiment: Experiment, callback: CalibrationCallback, plan: Plan) -> BudgetResult:
    """Find the SNN on the validation images; the module holds the ANN before and afterwards.

    Args:
        experiment: the run; its module's uncalibrated SNN is that of the same pipeline.
        callback: knows what the network receives; it has the SNN's pipeline and records afterwards.
        plan: what to search for.
    """
    main = next(iter(experiment.module.SCORES))
    with experiment.phase("ann_validation", "Scoring the ANN on the validation images"):
        ann = experiment.validate()
        count = len(cast(Sized, cast(Any, experiment.validation_loader).dataset))
        if main == "accuracy" and 100 / count > plan.budget.max_drop > 0:
            experiment.say(
                f"Of {count} validation images one is {100 / count:.2f} points: more than max_drop="
                f"{plan.budget.max_drop:g}. Raise data.val_fraction for a finer measure."
            )
    budget = plan.budget
    title = f"Searching for an SNN that loses {budget.max_drop:g} points at most, by {budget.objective}"
    with experiment.phase("search", title):
        callback.pipeline, callback.loader = plan.candidates[0].pipeline, calibration_loader(experiment)
        start = callback.starting_point(experiment.trainer, experiment.module)

        def score(snn: SpikingModel) -> float:
            put_back = part_of(experiment, callback).replace(snn)
            try:
                return experiment.validate()[main]
            finally:
                put_back()
                # A run ends with the module on the CPU.
                snn.to(start.device)

        recipe = experiment.recipe()
        where = {**recipe, "ckpt": experiment.config["ckpt"], "calibration": experiment.config["seed"]}
        result = search(
            start,
            plan.candidates,
            budget,
            ann[main],
            score,
            scored_by=fingerprint({"data": recipe["data"], "ann": ann, "score": main}),
            kept=Kept(Path(experiment.config["cache_dir"]) / "search" / fingerprint(where)),
            observer=lambda: RichObserver(experiment.console),
            say=experiment.say,
        )
        experiment.uncalibrated = start.convert(result.pipeline)
        experiment.console.print(trials_table(result.trials), highlight=False)
        experiment.say(result.summary)
    experiment.seconds["calibration"] = round(result.best.seconds, 2)
    callback.pipeline = result.pipeline
    callback.records = cast(SpikingModel, result.snn).records
    # Of all that was calibrated, the loggers get the best.
    LoggingObserver(experiment.trainer).stages_known([StageRecord(**record) for record in callback.records])
    return result


def config_found(config: DictConfig, result: BudgetResult) -> dict[str, Any]:
    """Return what the config of a run without a search says that makes the SNN that was found."""
    best = result.best
    composed = _composed(config, f"neuron={best.neuron}", f"pipeline={best.pipeline}", f"T={best.timesteps}")
    plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    return {"pipeline_name": best.pipeline, **{axis: plain[axis] for axis in AXES}}


def part_of(experiment: Experiment, callback: CalibrationCallback) -> Part:
    """Return the place in the module where the ANN is."""
    return Part(experiment.module, str(callback.network), experiment.network)


def results_of_search(result: BudgetResult) -> dict[str, Any]:
    """Return what `results.json` holds of a search."""
    budget = result.budget
    trials = [asdict(trial) for trial in result.trials]
    return {"max_drop": budget.max_drop, "objective": budget.objective, "met": result.met, "trials": trials}


def save_search(experiment: Experiment, result: BudgetResult) -> None:
    """Write the trials as CSV, and the curve."""
    write_atomically(experiment.folder / "search.csv", trials_csv(result.trials).encode())
    save_figure(plot_search(result.trials, result.budget.max_drop), experiment.folder / "search")
