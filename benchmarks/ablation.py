"""What each ingredient of the best pipeline is worth: one taken away at a time, on validation images.

python benchmarks/ablation.py --models vgg16_bn --timesteps 4 --seeds 0

The ANNs are those of accuracy.py, kept in cache/benchmarks; the images are those of the validation set,
neither calibration nor test images. Agreement is the share of them whose class is the ANN's: in the
accuracy, classes that become right and classes that become wrong cancel. Rows that the output file already
has are not measured again.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from accuracy import scores
from rich.console import Console
from rich.table import Table
from rows import Rows
from validation import add_arguments, networks

from snn_lightning import MMSE, Best, Max, Pipeline, Signed, calibrate

KEYS = ("model", "seed", "timesteps", "pipeline")
PIPELINES: dict[str, Callable[..., Pipeline]] = {
    "best": Best,
    "without distillation": partial(Best, distillation=None),
    "without weights": partial(Best, weights=None),
    "without potential": partial(Best, potential=None),
    "largest activation as threshold": partial(Best, threshold=Max()),
    "one threshold a layer": partial(Best, threshold=MMSE("layer")),
    "without half a step": partial(Best, rounding="floor"),
    "without distillation, signed neurons": partial(Best, distillation=None, neuron=Signed()),
}


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {name: getattr(args, name) for name in ("calibration_images", "validation_images")}
    rows = Rows(args.output, KEYS, settings)
    for model, seed, data, ann, images, labels in networks(args):
        with torch.no_grad():
            expected = ann(images)
        for timesteps in args.timesteps:
            for key, pipeline in PIPELINES.items():
                if rows.has(model, seed, timesteps, key):
                    continue
                started = time.process_time()
                loader = data.calibration_dataloader()
                snn = calibrate(ann, loader, pipeline(timesteps, seed=seed), progress=False)
                seconds = time.process_time() - started
                with torch.no_grad():
                    logits = snn(images)
                row = rows.add(
                    (model, seed, timesteps, key),
                    cpu_seconds=seconds,
                    **scores(logits, expected, labels),
                )
                console.print(*row.values())
    return rows


def table(rows: Rows) -> Table:
    result = Table("model", "T", "pipeline", "ANN %", "SNN %", "agreement %", "logit error", "CPU s")
    for key in dict.fromkeys((r["model"], r["timesteps"], r["pipeline"]) for r in rows):
        group = [r for r in rows if (r["model"], r["timesteps"], r["pipeline"]) == key]
        *shares, error, seconds = (
            statistics.mean(r[column] for r in group)
            for column in ("ann", "snn", "agreement", "logit_error", "cpu_seconds")
        )
        numbers = (*(f"{100 * share:.2f}" for share in shares), f"{error:.3f}", f"{seconds:.0f}")
        result.add_row(key[0], str(key[1]), key[2], *numbers)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "benchmarks/results/ablation.json", calibration_images=4096, validation_images=6000)
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(width=120)
    console.print(table(measure(args, console)))


if __name__ == "__main__":
    main()
