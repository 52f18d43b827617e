"""Accuracy against the number of calibration images: is what fits more ever worse than what fits less?

python benchmarks/few_images.py

The ANNs are those of accuracy.py (kept in cache/benchmarks). Each number of images is the first so many of
one drawn sample of the training images; all pipelines get the same. Nothing is chosen on the test images.
Rows that the output file already has are not measured again.
"""

import argparse
import logging
import time
from typing import Any

import torch
from accuracy import PIPELINES, TABLES, data_module, logits_and_labels, scores, trained
from rich.console import Console
from rich.table import Table
from rows import Rows

from snn_lightning import calibrate

KEYS = ("model", "seed", "timesteps", "images", "pipeline")
DATA = "fashion_mnist"


def measure(args: argparse.Namespace, console: Console) -> Rows:
    rows = Rows(args.output, KEYS, {"data": DATA, "test_images": args.test_images}, ["lightning"])
    args.calibration_images = max(args.images)
    for model in args.models:
        data = data_module(DATA, args.seed, args)
        data.setup()
        ann = trained(DATA, model, args.seed, data)
        expected, labels = logits_and_labels(ann, data)
        sample = torch.cat([x for x, _ in data.calibration_dataloader()])
        for images in args.images:
            for name in args.pipelines:
                key = (model, args.seed, args.timesteps, images, name)
                if rows.has(*key):
                    continue
                pipeline = PIPELINES[name](args.timesteps, seed=args.seed)
                started = time.process_time()
                snn = calibrate(ann, sample[:images].split(128), pipeline, progress=False)
                seconds = time.process_time() - started
                found = scores(logits_and_labels(snn, data)[0], expected, labels)
                console.print(*rows.add(key, cpu_seconds=seconds, **found).values())
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy and logit error: a line for each pipeline, a column for each number of images."""
    numbers = sorted({row["images"] for row in rows})
    result = Table("model", "seed", "T", "pipeline", *[f"{number} images" for number in numbers], "ANN")
    lines: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("model", "seed", "timesteps", "pipeline"))
        lines.setdefault(key, {})[row["images"]] = row
    for key, line in lines.items():
        cells = [
            f"{100 * line[n]['snn']:.2f}, {line[n]['logit_error']:.3f}" if n in line else "" for n in numbers
        ]
        result.add_row(*map(str, key), *cells, f"{100 * next(iter(line.values()))['ann']:.2f}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--images", nargs="+", type=int, default=[8, 32, 128, 256, 1024, 4096])
    parser.add_argument(
        "--pipelines", nargs="+", choices=list(PIPELINES), default=["lcp", "acp", "least_squares", "best"]
    )
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-images", type=int, default=2000)
    parser.add_argument("--output", default="benchmarks/results/few_images.json")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(width=140)
    console.print(table(list(measure(args, console))))


if __name__ == "__main__":
    main()
