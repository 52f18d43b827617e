"""What a run leaves in its folder: `results.json`, and the page about the SNN."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from snn_lightning.analysis.activity import Activity
from snn_lightning.analysis.results import Results, results_table, write_results
from snn_lightning.cli.experiment import Experiment, command
from snn_lightning.report import write_report

MISMATCH_IMAGES = 32


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
    experiment: Experiment,
    results: Results,
    activity: Activity,
    images: Tensor,
    ann: nn.Module | None = None,
    contact_sheet: Path | None = None,
) -> None:
    """Write the page about the SNN; what goes wrong there costs no results.

    Args:
        experiment: the run.
        results: what is in `results.json`.
        activity: spikes of the SNN.
        images: what it gets of test images, on its device; some are simulated again beside the ANN.
        ann: the network that was converted.
        contact_sheet: of synthetic calibration images.
    """
    if not (experiment.config["report"] and experiment.trainer.is_global_zero):
        return
    try:
        path = write_report(
            experiment.snn,
            experiment.folder,
            ann=ann,
            before=experiment.uncalibrated,
            images=images[:MISMATCH_IMAGES],
            results=results,
            activity=activity,
            contact_sheet=contact_sheet,
            png=True,
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
