"""What a run leaves in its folder: `results.json`, and the page about the SNN."""

from __future__ import annotations

import logging
from typing import Any

import torch

from snn_lightning.analysis.activity import Activity, measure_activity
from snn_lightning.analysis.results import Results, results_table, write_results
from snn_lightning.cli.experiment import Experiment, command
from snn_lightning.report import write_report

ENERGY_IMAGES, MISMATCH_IMAGES = 64, 32


def measured_activity(experiment: Experiment) -> Activity:
    """Count the spikes of the SNN on the first test images."""
    snn = experiment.snn
    return measure_activity(snn, _test_images(experiment, ENERGY_IMAGES).to(next(snn.parameters()).device))


def _test_images(experiment: Experiment, count: int) -> torch.Tensor:
    """Return what the SNN gets of the first test images, `[N, C, H, W]`."""
    _, images = experiment.part(next(iter(experiment.data.test_dataloader())))
    return images[:count]


def results_of(experiment: Experiment, **values: Any) -> Results:
    """Return what is known of every run, and `values`."""
    config = experiment.config
    head = {"model": config["model"]["name"], "data": experiment.data_name, "seed": config["seed"]}
    head["scores"] = list(experiment.module.SCORES)
    if (names := experiment.module.hparams["class_names"]) is not None:
        head["class_names"] = names
    last = {"seconds": experiment.seconds, "command": command(), "config": config}
    return Results({**head, **values, **last})


def save_results(experiment: Experiment, results: Results) -> None:
    """Write `results.json`, and print the table, on process 0."""
    if experiment.trainer.is_global_zero:
        path = experiment.folder / "results.json"
        write_results(path, results)
        experiment.console.print(results_table(results), highlight=False)
        experiment.console.print(f"Results: {experiment.folder}", highlight=False, soft_wrap=True)


def save_page(
    experiment: Experiment, results: Results, activity: Activity, ann: torch.nn.Module | None = None
) -> None:
    """Write the page about the SNN; what goes wrong there costs no results."""
    if not (experiment.config["report"] and experiment.trainer.is_global_zero):
        return
    snn = experiment.snn
    try:
        images = _test_images(experiment, MISMATCH_IMAGES)
        path = write_report(
            snn,
            experiment.folder,
            ann=ann,
            before=experiment.uncalibrated,
            images=images,
            results=results,
            activity=activity,
        )
    except Exception as error:
        logging.getLogger(__name__).warning(
            "There is no report.html (%s: %s). Results and checkpoint are complete. report=false leaves the "
            "page out; write_report(load_converted('snn.ckpt'), ...) makes it later.",
            type(error).__name__,
            error,
        )
        return
    experiment.say(f"Report: {path}")
