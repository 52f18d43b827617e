"""The papers' figures that are of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.report.compare.layout import rank
from snn_lightning.report.compare.runs import Run
from snn_lightning.report.compare.words import method
from snn_lightning.report.figures.errors import plot_channel_errors
from snn_lightning.report.figures.files import save_figure
from snn_lightning.report.figures.of_run import read_numbers

DRAWN = {"pc_fig5": "channel_errors"}
"""By the name of the experiment that makes the runs, the figure whose numbers they keep."""


def paper_figures(name: str, runs: Sequence[Run], folder: str | Path) -> list[Path]:
    """Draw a figure for each model, data set, T and seed, with the pipelines one above the other.

    Args:
        name: of `DRAWN`.
        runs: as `find_runs` returns them.
        folder: for the drawings.

    Returns:
        The drawings.

    Raises:
        SettingsError: there is no such figure.
        CheckpointError: a run hasn't kept its numbers.
    """
    if name not in DRAWN:
        raise SettingsError(unknown("figure", name, DRAWN))
    groups: dict[str, dict[str, Path]] = {}
    for run in sorted(sorted(runs, key=lambda run: run.modified), key=rank):
        title = f"{name}_{run.network[0]}_{run.network[1]}_T{run.timesteps}_seed{run.results.get('seed')}"
        groups.setdefault(title, {})[method(run)] = run.path.parent / "figures" / f"{DRAWN[name]}.json"
    drawings: list[Path] = []
    for title, files in groups.items():
        errors = {
            label: {site: torch.tensor(values) for site, values in read_numbers(file)["sites"].items()}
            for label, file in files.items()
        }
        drawings += save_figure(plot_channel_errors(errors), Path(folder) / title)
    return drawings
