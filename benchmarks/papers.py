"""The pipelines of the papers' tables beside this package's own, mean over seeds.

python benchmarks/papers.py --timesteps 4 8 16 32

As accuracy.py does it: every ANN is trained once (and kept in cache/benchmarks), every pipeline converts it
with the same calibration images, and nothing is chosen on the test images. A pipeline that needs activations
of its own has its own ANN, trained in the same way but for them; `hybrid` is `spike_norm` and then an epoch
of training with surrogate gradients. Rows that the output file already has are not measured again.
"""

import argparse
import time
from typing import Any

import torch
from accuracy import (
    KEYS,
    MODELS,
    RECIPES,
    TABLES,
    asked,
    data_module,
    logits_and_labels,
    scores,
    table,
    trained,
)
from lightning.pytorch import Trainer
from rich.console import Console
from rows import Rows

from snn_lightning import (
    ACP,
    LCP,
    QCFS,
    RMP,
    RNL,
    TSC,
    Baseline,
    MaxAct,
    Opt,
    Pipeline,
    RobustNorm,
    SpikeNorm,
    SpikingModel,
    calibrate,
)
from snn_lightning.data import Digits, FashionMNIST
from snn_lightning.training import ClassificationModule

PIPELINES: dict[str, tuple[type[Pipeline], str]] = {
    "max_act": (MaxAct, "relu"),
    "robust_norm": (RobustNorm, "relu"),
    "spike_norm": (SpikeNorm, "relu"),
    "rmp": (RMP, "relu"),
    "tsc": (TSC, "relu"),
    "rnl": (RNL, "rate_norm"),
    "opt": (Opt, "clipped"),
    "qcfs": (QCFS, "qcfs"),
    "hybrid": (SpikeNorm, "relu"),
    "baseline": (Baseline, "relu"),
    "lcp": (LCP, "relu"),
    "acp": (ACP, "relu"),
}
"""Each with the activation that its ANN is trained with."""

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "relu": {},
    "rate_norm": {"activation": {"name": "rate_norm", "fraction": 1.0, "momentum": 0.1}},
    "clipped": {"activation": {"name": "clipped", "cap": 1.0}},
    "qcfs": {"activation": {"name": "qcfs", "levels": 4, "cap": 8.0}},
}
"""Settings of the model, in full: they name the trained ANN in the cache."""


def finetune(snn: SpikingModel, model: str, data: Digits | FashionMNIST) -> None:
    """Train a spiking network for one epoch, in place."""
    module = ClassificationModule(MODELS[model], 10, 1, 32, learning_rate=1e-3, label_smoothing=0.1)
    module.net = snn
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    snn.eval()


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {"calibration_images": args.calibration_images, "test_images": args.test_images}
    rows = Rows(args.output, KEYS, settings, ["lightning"])
    for name in args.data:
        for model in args.models:
            for seed in args.seeds:
                data = data_module(name, seed, args)
                data.setup()
                for activation in dict.fromkeys(PIPELINES[key][1] for key in args.pipelines):
                    pipelines = {
                        key: PIPELINES[key][0] for key in args.pipelines if PIPELINES[key][1] == activation
                    }
                    wanted = [
                        (name, model, seed, timesteps, key)
                        for timesteps in args.timesteps
                        for key in pipelines
                        if not rows.has(name, model, seed, timesteps, key)
                    ]
                    if not wanted:
                        continue
                    ann = trained(name, model, seed, data, **ACTIVATIONS[activation])
                    expected, labels = logits_and_labels(ann, data)
                    for key in wanted:
                        started = time.process_time()
                        pipeline = pipelines[key[-1]](key[-2], seed=seed)
                        snn = calibrate(ann, data.calibration_dataloader(), pipeline, progress=False)
                        if key[-1] == "hybrid":
                            finetune(snn, model, data)
                        seconds = time.process_time() - started
                        logits, _ = logits_and_labels(snn, data)
                        row = rows.add(
                            key,
                            cpu_seconds=seconds,
                            **scores(logits, expected, labels),
                        )
                        console.print(*row.values())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=list(RECIPES), default=["fashion_mnist"])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=TABLES)
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=list(PIPELINES))
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--output", default="benchmarks/results/papers.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=140)
    console.print(table(asked(measure(args, console), args)))


if __name__ == "__main__":
    main()
