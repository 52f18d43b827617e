"""The pictures of the README and of docs/gallery.md, from real runs on scikit-learn's digits.

python benchmarks/pictures.py

It runs the README's own job and a small sweep, and draws what they leave behind. Runs that are finished in
the folder of `--runs` are not repeated; delete it to start afresh. It also has the pictures as PNG.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from snn_lightning import load_converted
from snn_lightning.analysis.potentials import membrane_potentials
from snn_lightning.analysis.results import read_results
from snn_lightning.data import Digits
from snn_lightning.report import (
    plot_accuracy,
    plot_accuracy_over_time,
    plot_firing_rates,
    plot_potentials,
    plot_site_errors,
    plot_spikes,
    save_figure,
)
from snn_lightning.report.compare import find_runs, panels

MAIN = ["model=vgg16_bn", "pipeline=acp", "T=16"]
"""Of `make demo`."""

SWEEP = ["model=vgg16_bn", "model.width=0.25", "pipeline=baseline,lcp,acp", "T=2,4,8,16", "seed=0,1,2"]
JOBS = 3 * 4 * 3
QUIET = ["logger=none", "report=false"]
THIRD = (4.9, 3.7)
"""Inches of a picture that shares its line with two others."""


def run(folder: Path, jobs: int, command: list[str]) -> None:
    if len(list(folder.rglob("results.json"))) < jobs:
        subprocess.run([sys.executable, "calibrate.py", *command], check=True)


def short(site: str) -> str:
    """The number of a site of VGG's `features`, so that names have room side by side."""
    return "out" if site.startswith("readout") else site.removeprefix("features_")


def column(path: Path, name: str) -> dict[str, float]:
    """A column of a table of sites or stages, by their short names."""
    with path.open() as file:
        return {short(next(iter(row.values()))): float(row[name]) for row in csv.DictReader(file)}


def of_the_job(folder: Path) -> dict[str, Figure]:
    results, report = read_results(folder / "results.json"), folder / "report"
    accuracies = {"SNN": results["accuracy_over_time"]}
    errors = {key: column(report / "errors.csv", key) for key in ("before", "after")}
    rates = {"SNN": column(report / "firing_rates.csv", "rate")}
    figures = {
        "accuracy_over_time": plot_accuracy_over_time(accuracies, results["ann_accuracy"]),
        "site_errors": plot_site_errors(errors),
        "firing_rates": plot_firing_rates(rates),
    }
    figures["firing_rates"].axes[0].set_ylabel("spikes a neuron\nand time step")
    for figure in figures.values():
        figure.set_size_inches(THIRD)
    return figures


def of_an_image(checkpoint: Path) -> dict[str, Figure]:
    """What happens inside the SNN while it looks at the first test image."""
    snn = load_converted(checkpoint)
    data = Digits()
    data.setup("test")
    image = next(iter(data.test_dataloader()))[0][:1]
    with torch.no_grad():
        trains = snn.spikes(image)
    sites = list(trains)[-3:]
    counts = (trains[sites[-1]] > 0).sum(0).flatten()
    firing = counts.argsort(stable=True)[(counts == 0).sum() :].tolist()
    chosen = [firing[int(share * len(firing))] for share in (0.25, 0.5, 0.9)]
    traces = membrane_potentials(snn, image, sites[-1], chosen)
    return {
        "spikes": plot_spikes({site: trains[site] for site in sites}, neurons=20),
        "potentials": plot_potentials(traces),
    }


def of_the_sweep(folder: Path) -> dict[str, Figure]:
    compared, _ = panels(find_runs([str(folder)])[0])
    return {"accuracy": plot_accuracy(compared)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("outputs/pictures"), help="where the runs lie")
    parser.add_argument("--output", type=Path, default=Path("docs/pictures"), help="where the pictures go")
    args = parser.parse_args()
    job, sweep = args.runs / "job", args.runs / "sweep"
    run(job, 1, [*MAIN, f"hydra.run.dir={job}"])
    run(sweep, JOBS, ["-m", *SWEEP, *QUIET, f"hydra.sweep.dir={sweep}"])
    for name, figure in {**of_the_job(job), **of_an_image(job / "snn.ckpt"), **of_the_sweep(sweep)}.items():
        _, svg = save_figure(figure, args.runs / "pictures" / name)
        print(shutil.copy(svg, args.output))


if __name__ == "__main__":
    main()
