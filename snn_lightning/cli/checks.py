"""What is looked at before any work: what a run would do and cost, and what it could not finish."""

from __future__ import annotations

import sys
from collections.abc import Sized
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from snn_lightning.analysis.cost.report import cost_report
from snn_lightning.analysis.parameters import KINDS
from snn_lightning.calibration import Pipeline
from snn_lightning.calibration.api import prepared, spiking
from snn_lightning.cli.experiment import Experiment
from snn_lightning.cli.figures import check_figures
from snn_lightning.cli.metric import check_metric
from snn_lightning.cli.search import Plan, check_plan
from snn_lightning.cli.sources import check_source, synthesis_cost
from snn_lightning.graph.parts import find_part
from snn_lightning.graph.report import conversion_report
from snn_lightning.training import FineTuning

SAMPLE = 8
"""Images on which a conversion is checked."""

RATIOS = ["energy_ratio", "energy_ratio_zero_skipping"]
ENERGY = ["spikes_per_image", "firing_rate", "synaptic_operations", *RATIOS]


def dry_run(experiment: Experiment, pipeline: Pipeline) -> None:
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


def check(experiment: Experiment, pipeline: Pipeline, finetune: FineTuning, plan: Plan | None) -> None:
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


def named(experiment: Experiment, *networks: str) -> list[str]:
    """Return the names that the scores of networks have in the results."""
    return [f"{network}_{name}" for network in networks for name in experiment.module.SCORES]


def _check_metric(
    experiment: Experiment, pipeline: Pipeline, finetune: FineTuning, plan: Plan | None
) -> None:
    names = [*named(experiment, "ann", "uncalibrated", "snn"), *ENERGY]
    phases = ["ann_test", "uncalibrated_test", "calibration", "snn_test"]
    if plan is not None:
        names.append("max_drop")
        phases += ["ann_validation", "search"]
    names += [f"parameter_bytes.{kind}" for kind in KINDS]
    names += [f"calibration_images.{part}" for part in experiment.source.names]
    if "synthetic" in experiment.source.names:
        phases.append("synthesis")
    if finetune.epochs:
        names += named(experiment, "converted")
        phases += ["finetune", "finetuned_test"]
    if experiment.config["unit_spikes"]:
        phases.append("unit_spikes_test")
    check_metric(experiment.config, names, phases, over_time(experiment, pipeline.timesteps))


def over_time(experiment: Experiment, timesteps: int) -> dict[str, int]:
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
    work = pipeline.decided([sample], given).decided_for(network).work(given, trainer.world_size)
    experiment.data.setup("test")
    tested = work.share(len(_dataset(experiment.data.test_dataloader())))
    whole = experiment.config["network"] is None
    simulations = experiment.module.simulations(pipeline.timesteps, whole)
    return cost_report(network, sample.to(device), work, tested, pipeline.neuron, simulations)
