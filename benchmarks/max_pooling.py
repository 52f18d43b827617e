"""What each treatment of max pooling costs in accuracy: VGG-16-BN on Fashion-MNIST.

python benchmarks/max_pooling.py --timesteps 4 8

The ANNs are trained as in accuracy.py, one with max pooling and one with average pooling, and kept in
cache/benchmarks. The one with max pooling is converted in three ways (gated, keep, average), and as a fourth
after an epoch of fine-tuning with average pooling in its place. Rows that the output file already has are not
measured again; delete it to start afresh.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accuracy import MODELS, PIPELINES, RECIPES, accuracy, data_module, logits_and_labels, scores
from lightning.pytorch import Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from rows import Rows

from snn_lightning import calibrate
from snn_lightning.data import FashionMNIST
from snn_lightning.training import ClassificationModule, load_or_train, load_weights

AVERAGE = MODELS["vgg16_bn"]
MAX = AVERAGE | {"pool": "max"}
FINE_TUNING = {"epochs": 1, "learning_rate": 0.01}
TREATMENTS = {
    "gated": "gated",
    "keep": "keep",
    "average": "average, replaced after training",
    "fine_tuned": "average, replaced and fine-tuned",
    "from_start": "average from the start",
}
KEYS = ("treatment", "seed", "timesteps", "pipeline")


def trained(
    model: Mapping[str, Any], seed: int, data: FashionMNIST, console: Console, start: Path | None = None
) -> Path:
    """The checkpoint of an ANN, trained by accuracy.py's recipe or fine-tuned from the weights in `start`."""
    recipe = RECIPES["fashion_mnist"]
    settings = {"model": model, "data": "fashion_mnist", "seed": seed, **recipe}
    settings["epochs"] = recipe["epochs"]["vgg16_bn"]
    if start is not None:
        settings |= {"start": start.stem, **FINE_TUNING}

    def train(path: Path) -> None:
        console.print(f"training {settings}")
        seed_everything(seed, verbose=False)
        module = network(model, settings["learning_rate"])
        if start is not None:
            load_weights(module, start)
        trainer = Trainer(
            max_epochs=settings["epochs"],
            accelerator="cpu",
            precision="bf16-mixed",  # of the pretraining only
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=data)
        trainer.save_checkpoint(path, weights_only=True)

    return load_or_train("cache/benchmarks", settings, train).path


def network(model: Mapping[str, Any], learning_rate: float = 0.0) -> ClassificationModule:
    return ClassificationModule(model, 10, 1, 32, learning_rate=learning_rate, label_smoothing=0.1)


def loaded(model: Mapping[str, Any], path: Path) -> torch.nn.Module:
    module = network(model)
    load_weights(module, path)
    return module.net.eval()


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {name: getattr(args, name) for name in ("calibration_images", "test_images")}
    rows = Rows(args.output, KEYS, settings | {"fine_tuning": FINE_TUNING}, ("lightning",))
    for seed in args.seeds:
        data = data_module("fashion_mnist", seed, args)
        data.setup()
        max_path = trained(MAX, seed, data, console)
        # What is converted, how, and the ANN that the SNN is calibrated to be.
        max_pooled, replaced = loaded(MAX, max_path), loaded(AVERAGE, max_path)
        fine_tuned = loaded(AVERAGE, trained(AVERAGE, seed, data, console, max_path))
        from_start = loaded(AVERAGE, trained(AVERAGE, seed, data, console))
        runs = {
            "gated": (max_pooled, "gated", max_pooled),
            "keep": (max_pooled, "keep", max_pooled),
            "average": (max_pooled, "average", replaced),
            "fine_tuned": (fine_tuned, "gated", fine_tuned),
            "from_start": (from_start, "gated", from_start),
        }
        for treatment, (ann, max_pooling, target) in runs.items():
            expected, labels = logits_and_labels(target, data)
            console.print(f"{TREATMENTS[treatment]}: ANN {accuracy(expected, labels):.4f}")
            for timesteps in args.timesteps:
                for key in args.pipelines:
                    if rows.has(treatment, seed, timesteps, key):
                        continue
                    pipeline = PIPELINES[key](timesteps, max_pooling=max_pooling, seed=seed)
                    started = time.process_time()
                    snn = calibrate(ann, data.calibration_dataloader(), pipeline, progress=False)
                    seconds = time.process_time() - started
                    logits, _ = logits_and_labels(snn, data)
                    row = rows.add(
                        (treatment, seed, timesteps, key),
                        cpu_seconds=seconds,
                        **scores(logits, expected, labels),
                    )
                    console.print(*row.values())
    return rows


def table(rows: Rows) -> Table:
    steps = sorted({row["timesteps"] for row in rows})
    result = Table("max pooling", "ANN %", "pipeline", *(f"T={T} %" for T in steps))
    for treatment, pipeline in dict.fromkeys((row["treatment"], row["pipeline"]) for row in rows):
        group = [row for row in rows if (row["treatment"], row["pipeline"]) == (treatment, pipeline)]
        cells = [spread([row["snn"] for row in group if row["timesteps"] == T]) for T in steps]
        ann = spread(list({row["seed"]: row["ann"] for row in group}.values()))
        result.add_row(TREATMENTS[treatment], ann, pipeline, *cells)
    return result


def spread(fractions: list[float]) -> str:
    """Mean ± standard deviation over seeds, in percent."""
    values = [100 * value for value in fractions]
    if len(values) < 2:
        return "".join(f"{value:.1f}" for value in values)
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=["baseline", "lcp", "acp"])
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--output", default="benchmarks/results/max_pooling.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    console = Console(width=120)
    console.print(table(measure(args, console)))


if __name__ == "__main__":
    main()
