"""Networks that spike in part: what has no spiking form stays analog; on Fashion-MNIST.

python benchmarks/analog.py

The squeeze-and-excitation of RegNetY-400MF and GhostNet and the group norms of a ResNet-20 are left as they
are, `analog="auto"`, so that an inference takes several windows of T time steps. The ANNs are trained as in
accuracy.py and kept in cache/benchmarks. Rows that the output file already has are not measured again; delete
it to start afresh. Energy (of the ANN's) is that of the first 256 test images.
"""

import argparse
import logging
import time

import torch
from accuracy import ENERGY_IMAGES, PIPELINES, data_module, fitted, logits_and_labels, scores
from rich.console import Console
from rich.table import Table
from rows import Rows
from torch import nn

from snn_lightning import calibrate
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.graph.macs import spiking_share
from snn_lightning.models import create_model, register_model

MODELS = {
    "regnet_y_400mf": {"name": "regnet_y_400mf", "source": "torchvision"},
    "ghostnet_050": {"name": "ghostnet_050", "source": "timm"},
    "resnet20_gn": {"name": "resnet20_gn", "width": 16},
}
RECIPES = {
    "regnet_y_400mf": {"batch_size": 128, "epochs": 3, "learning_rate": 0.02},
    "ghostnet_050": {"batch_size": 128, "epochs": 2, "learning_rate": 0.1},
    "resnet20_gn": {"batch_size": 128, "epochs": 2, "learning_rate": 0.1},
}
"""Of each ANN's training; at a rate of 0.1 RegNetY stayed below 80 %."""

GROUPS = 8
KEYS = ("model", "seed", "timesteps", "pipeline")


@register_model
def resnet20_gn(*, num_classes: int, in_channels: int, image_size: int, width: int) -> nn.Module:
    net = create_model(
        "resnet20", num_classes=num_classes, in_channels=in_channels, image_size=image_size, width=width
    )
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            net.set_submodule(name, nn.GroupNorm(GROUPS, module.num_features))
    return net


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {"calibration_images": args.calibration_images, "test_images": args.test_images}
    rows = Rows(args.output, KEYS, settings | {"recipes": RECIPES}, ("lightning", "torchvision", "timm"))
    data = data_module("fashion_mnist", args.seed, args)
    data.setup()
    images = torch.cat([x for x, _ in data.test_dataloader()])[:ENERGY_IMAGES]
    for model in args.models:
        runs = [(t, p) for t in args.timesteps for p in args.pipelines]
        runs = [run for run in runs if not rows.has(model, args.seed, *run)]
        if not runs:
            continue
        ann = fitted(MODELS[model], RECIPES[model], "fashion_mnist", args.seed, data)
        expected, labels = logits_and_labels(ann, data)
        for timesteps, key in runs:
            pipeline = PIPELINES[key](timesteps, analog="auto", seed=args.seed)
            started = time.process_time()
            snn = calibrate(ann, data.calibration_dataloader(), pipeline, progress=False)
            seconds = time.process_time() - started
            logits, _ = logits_and_labels(snn, data)
            row = rows.add(
                (model, args.seed, timesteps, key),
                spiking_share=spiking_share(snn.network, images[:1]),
                windows=snn.windows,
                cpu_seconds=seconds,
                **scores(logits, expected, labels),
                **measure_energy(snn, images).results(),
            )
            console.print(*row.values())
    return rows


def table(rows: Rows) -> Table:
    result = Table(
        "model", "ANN %", "spiking %", "windows", "T", "pipeline", "SNN %", "agreement %", "energy %", "CPU s"
    )
    for r in rows:
        shares = [f"{100 * r[column]:.2f}" for column in ("snn", "agreement")]
        result.add_row(
            r["model"],
            f"{100 * r['ann']:.2f}",
            f"{100 * r['spiking_share']:.1f}",
            str(r["windows"]),
            str(r["timesteps"]),
            r["pipeline"],
            *shares,
            f"{100 * r['energy_ratio']:.1f}",
            f"{r['cpu_seconds']:.1f}",
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=["lcp", "acp"])
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4, 8, 16])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--test-images", type=int, default=2000)
    parser.add_argument("--output", default="benchmarks/results/analog.json")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(width=140)
    console.print(table(measure(args, console)))


if __name__ == "__main__":
    main()
