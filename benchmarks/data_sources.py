"""Calibration on real images, on images made of the ANN itself, on both, and on noise.

python benchmarks/data_sources.py --data digits fashion_mnist --sources real synthetic noise
python benchmarks/data_sources.py --data fashion_mnist --sources real both --pipelines best --timesteps 4

The ANNs are those of accuracy.py (kept in cache/benchmarks), and so are the real images. The synthetic ones
are made once for each ANN, with the default settings but for mirrored digits, and kept beside it. Nothing is
chosen on the test images. Rows that the output file already has are not measured again.
"""

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accuracy
import torch
from accuracy import RECIPES, TABLES, data_module, logits_and_labels, scores, trained
from rich.console import Console
from rich.table import Table
from rows import Rows
from torch import Tensor, nn

from snn_lightning import Best, Pipeline, Synthesis, calibrate, synthesise
from snn_lightning.data import Digits, FashionMNIST
from snn_lightning.data.unlabelled import Noise

KEYS = ("data", "model", "seed", "timesteps", "source", "pipeline")
SOURCES = ("real", "synthetic", "both", "noise")
CHEAP = ("lcp", "acp", "least_squares")
PIPELINES: dict[str, Callable[..., Pipeline]] = {
    **{name: accuracy.PIPELINES[name] for name in CHEAP},
    "best": Best,
}


def images_of(
    source: str,
    ann: nn.Module,
    data: Digits | FashionMNIST,
    args: argparse.Namespace,
    seed: int,
    folder: Path,
) -> Tensor:
    """The calibration images of a source, normalised, `[N, C, H, W]`."""
    if source == "both":
        return torch.cat([images_of(part, ann, data, args, seed, folder) for part in ("real", "synthetic")])
    if source == "noise":
        shape = (data.in_channels, data.image_size, data.image_size)
        return torch.stack([image for image in Noise(args.calibration_images, shape, seed)])
    if source == "real":
        return torch.cat([x for x, _ in data.calibration_dataloader()])
    settings, count = Synthesis(seed=seed, flip=not isinstance(data, Digits)), args.synthetic_images
    assert data.mean is not None
    assert data.std is not None
    return synthesise(
        ann, count, data.image_size, settings, folder=folder, mean=data.mean, std=data.std, progress=False
    )


def measure(args: argparse.Namespace, console: Console) -> Rows:
    names = ("calibration_images", "synthetic_images", "test_images")
    settings = {name: getattr(args, name) for name in names}
    rows = Rows(args.output, KEYS, settings, ["lightning"])
    runs = [(t, s, p) for t in args.timesteps for s in args.sources for p in args.pipelines]
    for name in args.data:
        for model in args.models:
            for seed in args.seeds:
                left = [run for run in runs if not rows.has(name, model, seed, *run)]
                if not left:
                    continue
                data = data_module(name, seed, args)
                data.setup()
                ann = trained(name, model, seed, data)
                expected, labels = logits_and_labels(ann, data)
                images: dict[str, Tensor] = {}
                for timesteps, source, pipeline in left:
                    if source not in images:
                        started = time.process_time()
                        folder = f"cache/benchmarks/synthetic/{name}-{model}-{seed}-{args.synthetic_images}"
                        images[source] = images_of(source, ann, data, args, seed, Path(folder))
                        console.print(f"{source} images: {time.process_time() - started:.0f} CPU s")
                    loader = images[source].split(128)
                    started = time.process_time()
                    snn = calibrate(ann, loader, PIPELINES[pipeline](timesteps, seed=seed), progress=False)
                    seconds = time.process_time() - started
                    found = scores(logits_and_labels(snn, data)[0], expected, labels)
                    row = rows.add(
                        (name, model, seed, timesteps, source, pipeline), cpu_seconds=seconds, **found
                    )
                    console.print(*row.values())
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """As PC Table 7: a line for each source, a column for each number of time steps."""
    steps = sorted({row["timesteps"] for row in rows})
    result = Table("data", "model", "pipeline", "source", *[f"T={t}" for t in steps])
    keys = dict.fromkeys((r["data"], r["model"], r["pipeline"], r["source"]) for r in rows)
    for key in sorted(keys, key=lambda key: (*key[:3], SOURCES.index(key[3]))):
        group = [r for r in rows if (r["data"], r["model"], r["pipeline"], r["source"]) == key]
        cells = []
        for t in steps:
            values = [100 * r["snn"] for r in group if r["timesteps"] == t]
            cells.append(f"{sum(values) / len(values):.2f}" if values else "")
        result.add_row(*key, *cells)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--models", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=["real", "synthetic", "noise"])
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=list(CHEAP))
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--synthetic-images", type=int, default=256)
    parser.add_argument("--test-images", type=int, default=1000, help="of Fashion-MNIST; digits uses all 360")
    parser.add_argument("--output", default="benchmarks/results/data_sources.json")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(width=140)
    console.print(table(list(measure(args, console))))


if __name__ == "__main__":
    main()
