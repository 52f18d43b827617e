"""Accuracy of the pipelines at few time steps, mean over seeds.

python benchmarks/accuracy.py --data fashion_mnist --timesteps 4 8

Every ANN is trained once (and kept in cache/benchmarks); every pipeline then converts the same ANN with the
same calibration images and is tested on the same test images. Nothing is chosen on the test images. Rows that
the output file already has are not measured again; delete it to start afresh. Spikes and energy (of
the ANN's) are those of the first 256 test images.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from rows import Rows

from snn_lightning import (
    ACP,
    LCP,
    Baseline,
    Best,
    Burst,
    Distillation,
    LeastSquares,
    Parallel,
    Pipeline,
    Signed,
    SpikingModel,
    Switch,
    calibrate,
    convert,
)
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.data import Digits, FashionMNIST
from snn_lightning.training import ClassificationModule, load_or_train, load_weights

MODELS = {
    "resnet20": {"name": "resnet20", "width": 16},
    "vgg16_bn": {"name": "vgg16_bn", "width": 0.25},
    "mobilenet": {"name": "mobilenet", "width": 0.5},
}
RECIPES = {
    "digits": {
        "batch_size": 64,
        "epochs": {"resnet20": 15, "vgg16_bn": 8, "mobilenet": 15},
        "learning_rate": 0.05,
    },
    "fashion_mnist": {
        "batch_size": 128,
        "epochs": {"resnet20": 3, "vgg16_bn": 4, "mobilenet": 4},
        "learning_rate": 0.1,
    },
}
TABLES = ["resnet20", "vgg16_bn"]
"""The models of the tables, measured by default."""

KEYS = ("data", "model", "seed", "timesteps", "pipeline")
PIPELINES: dict[str, Callable[..., Pipeline]] = {
    "baseline": Baseline,
    "lcp": LCP,
    "acp": ACP,
    "least_squares": partial(ACP, weights=LeastSquares()),
    "best": Best,
    "best_2400": partial(Best, distillation=Distillation(iterations=2400)),
    "lcp_signed": partial(LCP, neuron=Signed()),
    "lcp_burst": partial(LCP, neuron=Burst(2)),
    "lcp_parallel": partial(LCP, neuron=Parallel()),
    "acp_signed": partial(ACP, neuron=Signed()),
    "acp_burst": partial(ACP, neuron=Burst(2)),
    "acp_parallel": partial(ACP, neuron=Parallel()),
    "acp_switch": partial(ACP, neuron=Switch()),
    "least_squares_parallel": partial(ACP, weights=LeastSquares(), neuron=Parallel()),
    "least_squares_signed": partial(ACP, weights=LeastSquares(), neuron=Signed()),
    "best_signed": partial(Best, neuron=Signed()),
    "best_burst": partial(Best, neuron=Burst(2)),
    "best_parallel": partial(Best, neuron=Parallel()),
}
ENERGY_IMAGES = 256
"""Test images whose spikes are counted."""


def data_module(name: str, seed: int, args: argparse.Namespace) -> Digits | FashionMNIST:
    settings: dict[str, Any] = {
        "batch_size": RECIPES[name]["batch_size"],
        "calibration_images": args.calibration_images,
        "seed": seed,
        "test_images": args.test_images if name != "digits" else None,
    }
    return Digits(**settings) if name == "digits" else FashionMNIST(**settings)


def trained(
    name: str, model: str, seed: int, data: Digits | FashionMNIST, **model_settings: Any
) -> torch.nn.Module:
    recipe = RECIPES[name]
    recipe = recipe | {"epochs": recipe["epochs"][model]}
    return fitted({**MODELS[model], **model_settings}, recipe, name, seed, data)


def fitted(
    model: dict[str, Any], recipe: dict[str, Any], name: str, seed: int, data: Digits | FashionMNIST
) -> torch.nn.Module:
    settings = {"model": model, "data": name, "seed": seed, **recipe}
    seed_everything(seed, verbose=False)
    module = ClassificationModule(
        model, 10, 1, 32, learning_rate=recipe["learning_rate"], label_smoothing=0.1
    )

    def train(path: Path) -> None:
        trainer = Trainer(
            max_epochs=recipe["epochs"],
            accelerator="cpu",
            precision="bf16-mixed",  # of the pretraining only
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=data)
        trainer.save_checkpoint(path, weights_only=True)

    load_weights(module, load_or_train("cache/benchmarks", settings, train).path)
    return module.net.eval()


def logits_and_labels(
    network: torch.nn.Module, data: Digits | FashionMNIST
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        pairs = [(network(x), y) for x, y in data.test_dataloader()]
    return torch.cat([logits for logits, _ in pairs]), torch.cat([y for _, y in pairs])


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return (logits.argmax(1) == labels).double().mean().item()


def scores(logits: torch.Tensor, expected: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """The accuracies of ANN and SNN, and how near the SNN is to the ANN's logits (`expected`) and classes."""
    return {
        "ann": accuracy(expected, labels),
        "snn": accuracy(logits, labels),
        "agreement": accuracy(logits, expected.argmax(1)),
        "logit_error": ((logits - expected).norm() / expected.norm()).item(),
    }


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {"calibration_images": args.calibration_images, "test_images": args.test_images}
    rows = Rows(args.output, KEYS, settings, ["lightning"])
    for name in args.data:
        for model in args.models:
            for seed in args.seeds:
                runs = [(t, p) for t in args.timesteps for p in args.pipelines]
                runs = [run for run in runs if not rows.has(name, model, seed, *run)]
                if not runs:
                    continue
                data = data_module(name, seed, args)
                data.setup()
                ann = trained(name, model, seed, data)
                expected, labels = logits_and_labels(ann, data)
                images = torch.cat([x for x, _ in data.test_dataloader()])[:ENERGY_IMAGES]
                for timesteps, key in runs:
                    started = time.process_time()
                    snn = converted(ann, data, timesteps, key, seed)
                    seconds = time.process_time() - started
                    logits, _ = logits_and_labels(snn, data)
                    row = rows.add(
                        (name, model, seed, timesteps, key),
                        cpu_seconds=seconds,
                        **scores(logits, expected, labels),
                        **measure_energy(snn, images).results(),
                        **iterations(snn),
                        latency_steps=snn.latency_steps,
                    )
                    console.print(*row.values())
    return rows


def converted(
    ann: torch.nn.Module, data: Digits | FashionMNIST, timesteps: int, pipeline: str, seed: int
) -> SpikingModel:
    loader = data.calibration_dataloader()
    if pipeline == "uncalibrated":
        return convert(ann, next(iter(loader))[0], timesteps)
    return calibrate(ann, loader, PIPELINES[pipeline](timesteps, seed=seed), progress=False)


def iterations(snn: SpikingModel) -> dict[str, int]:
    """Of the distillation, which its cost and its accuracy depend on; empty for a pipeline without it."""
    step = snn.records[-1]["steps"].get("distillation", {}) if snn.records else {}
    last = [int(key.removeprefix("loss_")) for key in step if key.startswith("loss_")]
    return {"iterations": max(last) + 1} if last else {}


def asked(rows: Rows, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows that the command line names, in its order; the file may have more."""
    choices = (args.data, args.models, args.seeds, args.timesteps, args.pipelines)
    wanted = dict(zip(KEYS, choices, strict=True))
    named = [r for r in rows if all(r[key] in values for key, values in wanted.items())]
    return sorted(named, key=lambda r: [values.index(r[key]) for key, values in wanted.items()])


def table(rows: list[dict[str, Any]]) -> Table:
    result = Table(
        *("data", "model", "T", "pipeline", "ANN %", "SNN %", "logit error", "CPU s"),
        *("spikes", "energy %", "steps of an inference"),
    )
    keys = dict.fromkeys((r["data"], r["model"], r["timesteps"], r["pipeline"]) for r in rows)
    for key in keys:
        group = [r for r in rows if (r["data"], r["model"], r["timesteps"], r["pipeline"]) == key]
        cells = []
        for column in ("ann", "snn"):
            values = [100 * r[column] for r in group]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.2f} ± {deviation:.2f}")
        seconds = statistics.median(r["cpu_seconds"] for r in group)
        error = statistics.mean(r["logit_error"] for r in group)
        cells += [f"{error:.3f}", f"{seconds:.1f}"]
        if all("energy_ratio" in r for r in group):
            spikes, energy = (
                statistics.mean(r[column] for r in group) for column in ("spikes_per_image", "energy_ratio")
            )
            cells += [f"{spikes / 1000:.0f} k", f"{100 * energy:.1f}", str(group[0].get("latency_steps", ""))]
        result.add_row(key[0], key[1], str(key[2]), key[3], *cells)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pipelines = ["uncalibrated", *PIPELINES]
    parser.add_argument("--data", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=TABLES)
    parser.add_argument("--pipelines", nargs="+", choices=pipelines, default=pipelines[:4])
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--test-images", type=int, default=1000, help="of Fashion-MNIST; digits uses all 360")
    parser.add_argument("--output", default="benchmarks/results/accuracy.json")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(width=140)
    console.print(table(asked(measure(args, console), args)))


if __name__ == "__main__":
    main()
