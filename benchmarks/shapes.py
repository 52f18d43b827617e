"""Detection and segmentation on drawn shapes: the layout of PC Table 4, with pictures.

python train.py experiment=shapes_detection model=retinanet
python train.py experiment=shapes_detection model=faster_rcnn
python train.py experiment=shapes_segmentation
python benchmarks/shapes.py outputs/.../results.json outputs/.../results.json outputs/.../results.json

Of detectors the ResNet spikes, of segmentation networks everything. Every pipeline converts the same ANN with
the same calibration images and is tested on the same test images. Rows that the output file already has are
not measured again; delete it to start afresh.
"""

import argparse
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule, Trainer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rows import Rows
from torch import nn

from snn_lightning import ACP, LCP, Baseline, Best, Distillation, LeastSquares, Pipeline, Potential, calibrate
from snn_lightning.analysis.results import read_results
from snn_lightning.report import plot_detections, plot_masks, save_figure
from snn_lightning.training import LitDetector, LitSegmenter, TaskModule

CHANNELS = Potential(granularity="channel")
"""Images are of several sizes."""

ALL: dict[str, Any] = {"augment": None, "held_out": 0}
"""All images are fitted to."""

PIPELINES: dict[str, partial[Pipeline]] = {
    "baseline": partial(Baseline),
    "lcp": partial(LCP),
    "acp": partial(ACP, potential=CHANNELS, **ALL),
    "least_squares": partial(ACP, weights=LeastSquares(), potential=CHANNELS, **ALL),
    "best": partial(Best, potential=CHANNELS, distillation=Distillation(iterations=30, batch_size=8), **ALL),
}
KEYS = ("model", "timesteps", "pipeline")


def trained(path: Path, images: int, tested: int) -> tuple[TaskModule, LightningDataModule, str | None]:
    """Return what `train.py` has trained, its data, and the part that spikes."""
    results = read_results(path)
    config = results["config"]
    kind = LitDetector if config["module"]["_target_"].endswith("LitDetector") else LitSegmenter
    module = kind.load_from_checkpoint(path.parents[3] / results["checkpoint"], map_location="cpu").eval()
    data = instantiate({**config["data"], "calibration_images": images, "test_images": tested})
    return module, data, "backbone.body" if kind is LitDetector else None


def scored(module: TaskModule, network: nn.Module, data: LightningDataModule) -> dict[str, float]:
    """Return the scores of a network, of an SNN after all of its time steps."""
    module.net = network
    module.steps_scored = lambda timesteps, whole: [timesteps]  # type: ignore[method-assign]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", **quiet).test(module, datamodule=data, verbose=False)
    return module.scores


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {"calibration_images": args.calibration_images, "test_images": args.test_images}
    rows = Rows(args.output, KEYS, settings, ["lightning", "torchvision"])
    for path in args.results:
        module, data, part = trained(path, args.calibration_images, args.test_images)
        name, ann = str(module.hparams["model"]["name"]), module.net
        if not rows.has(name, 0, "ann"):
            rows.add((name, 0, "ann"), **scored(module, ann, data), cpu_seconds=0.0)
        for timesteps in args.timesteps:
            for key in args.pipelines:
                if rows.has(name, timesteps, key):
                    continue
                started = time.process_time()
                pipeline = PIPELINES[key](timesteps)
                snn = calibrate(ann, data.calibration_dataloader(), pipeline, network=part, progress=False)
                seconds = time.process_time() - started
                row = rows.add((name, timesteps, key), **scored(module, snn, data), cpu_seconds=seconds)
                console.print(*row.values())
                if (timesteps, key) == (32, "acp"):
                    picture = drawn(module, ann, snn, data)
                    save_figure(picture, args.pictures / f"{name}_{key}_{timesteps}")
    return rows


@torch.no_grad()
def drawn(module: TaskModule, ann: nn.Module, snn: nn.Module, data: Any) -> Figure:
    """Return a picture of the first test images, as ANN and SNN see them."""
    images, targets = next(iter(data.test_dataloader()))
    images, targets = images[:4], targets[:4]
    if isinstance(module, LitDetector):
        return plot_detections(images, ann(images), snn(images), targets, data.class_names)
    found = (network(images)["out"].argmax(1) for network in (ann, snn))
    return plot_masks(images, *found, targets, data.class_names)


def table(rows: Rows) -> Table:
    result = Table("model", "T", "pipeline", "score %", "second score %", "below the ANN", "CPU s")
    main = {"retinanet": "map50", "faster_rcnn": "map50"}
    ann = {row["model"]: row for row in rows if row["pipeline"] == "ann"}
    for row in rows:
        score = main.get(row["model"], "miou")
        second = "map" if score == "map50" else "pixel_accuracy"
        values = [f"{100 * row[name]:.2f}" for name in (score, second)]
        below = f"{100 * (ann[row['model']][score] - row[score]):.2f}"
        result.add_row(
            row["model"],
            str(row["timesteps"] or ""),
            row["pipeline"],
            *values,
            below,
            f"{row['cpu_seconds']:.0f}",
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, help="of train.py")
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=["baseline", "lcp", "acp"])
    parser.add_argument("--timesteps", nargs="+", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--calibration-images", type=int, default=64)
    parser.add_argument("--test-images", type=int, default=64)
    parser.add_argument("--output", default="benchmarks/results/shapes.json")
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(width=140)
    console.print(table(measure(args, console)))


if __name__ == "__main__":
    main()
