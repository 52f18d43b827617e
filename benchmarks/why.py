"""Why the activations of the SNN differ from the ANN's: the error of each site in parts, on Fashion-MNIST.

python benchmarks/why.py --pipelines lcp acp --timesteps 4 --seeds 0

The ANNs are those of accuracy.py, kept in cache/benchmarks; the images are the first of the validation set,
so that settings may be chosen by what is seen here. Rows that the output file already has are not measured
again; delete it to start afresh.
"""

import argparse
import logging
import statistics
from dataclasses import asdict
from typing import Any

import torch
from accuracy import PIPELINES, accuracy
from rich.console import Console
from rich.table import Table
from rows import Rows
from validation import add_arguments, networks

from snn_lightning import calibrate
from snn_lightning.analysis.mismatch import PARTS, measure_mismatch

KEYS = ("model", "seed", "timesteps", "pipeline")


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {name: getattr(args, name) for name in ("calibration_images", "validation_images")}
    rows = Rows(args.output, KEYS, settings, ("lightning",))
    for model, seed, data, ann, images, labels in networks(args):
        with torch.no_grad():
            expected = ann(images)
        for timesteps in args.timesteps:
            for key in args.pipelines:
                if rows.has(model, seed, timesteps, key):
                    continue
                pipeline = PIPELINES[key](timesteps, seed=seed)
                snn = calibrate(ann, data.calibration_dataloader(), pipeline, progress=False)
                report = measure_mismatch(ann, snn, images)
                console.rule(f"{model}, seed {seed}, {key}", align="left")
                console.print(str(report), highlight=False, soft_wrap=True)
                rows.add(
                    (model, seed, timesteps, key),
                    ann=accuracy(expected, labels),
                    snn=accuracy(snn(images), labels),
                    mean=asdict(report.mean),
                    stages=[asdict(stage) for stage in report.stages],
                )
    return rows


def table(rows: Rows) -> Table:
    """The means over sites and seeds: the share of the total, and in brackets the part alone."""
    result = Table("model", "T", "pipeline", "ANN %", "SNN %", *PARTS, "total", "readout")
    for model, timesteps, key in dict.fromkeys((r["model"], r["timesteps"], r["pipeline"]) for r in rows):
        group = [r for r in rows if (r["model"], r["timesteps"], r["pipeline"]) == (model, timesteps, key)]

        def mean(values: list[float]) -> float:
            return statistics.mean(values)

        def numbers(kind: str, part: str, group: list[dict[str, Any]] = group) -> float:
            return mean([row["mean"][kind][part] for row in group])

        result.add_row(
            model,
            str(timesteps),
            key,
            *(f"{100 * mean([row[name] for row in group]):.1f}" for name in ("ann", "snn")),
            *(f"{numbers('shares', part):.4f} ({numbers('norms', part):.4f})" for part in PARTS),
            f"{mean([row['mean']['total'] for row in group]):.4f}",
            f"{mean([row['stages'][-1]['total'] for row in group]):.4f}",
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=["lcp", "acp"])
    add_arguments(parser, "benchmarks/results/why.json", calibration_images=256, validation_images=512)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    console = Console(width=140)
    console.print(table(measure(args, console)))


if __name__ == "__main__":
    main()
