"""Does the predicted effect of a site's error rank the sites as the measured effect does?

python benchmarks/sensitivity.py

Converts the digits' ANNs of `accuracy.py` (trained once, kept in cache/benchmarks) with `baseline` and `lcp`,
and prints Spearman's rank correlation of each prediction with the effect measured by simulation: for the
whole error at a site, and for the site's own error alone ("local").
"""

import argparse
import logging
import time

import torch
from accuracy import MODELS, PIPELINES, data_module, trained
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from snn_lightning import SpikingModel, calibrate, sensitivity
from snn_lightning.analysis.sensitivity import ORDERS, measured_effect

TABLES = ["resnet20", "vgg16_bn"]


def correlations(
    ann: torch.nn.Module, snn: SpikingModel, images: torch.Tensor, local: bool
) -> tuple[float, list[float]]:
    """Return the relative squared error of the output, and a rank correlation for each prediction."""
    report = sensitivity(ann, snn, images, local=local)
    measured = measured_effect(ann, snn, images, local=local)
    truth = [measured[row.name] for row in report.rows]
    predictions = [[getattr(row, order) for row in report.rows] for order in ORDERS]
    return report.output_error, [spearmanr(values, truth).statistic for values in predictions]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=TABLES)
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=["baseline", "lcp"])
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=64, help="test images that are simulated")
    parser.add_argument("--calibration-images", type=int, default=256)
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    table = Table("model", "T", "pipeline", "errors", "output error", *ORDERS)
    started = time.process_time()
    for model in args.models:
        data = data_module("digits", args.seed, args)
        data.setup()
        ann = trained("digits", model, args.seed, data)
        images = torch.cat([x for x, _ in data.test_dataloader()])[: args.images]
        for timesteps in args.timesteps:
            for name in args.pipelines:
                pipeline = PIPELINES[name](timesteps, seed=args.seed)
                snn = calibrate(ann, data.calibration_dataloader(), pipeline, progress=False)
                for local in (False, True):
                    error, found = correlations(ann, snn, images, local)
                    kind = "local" if local else "whole"
                    numbers = [f"{value:.2f}" for value in (error, *found)]
                    table.add_row(model, str(timesteps), name, kind, *numbers)
    console = Console(width=140)
    console.print(table)
    console.print(f"{time.process_time() - started:.0f} CPU seconds")


if __name__ == "__main__":
    main()
