"""What simulation and calibration cost, as ratios in one run: medians of alternated runs on one thread.

python benchmarks/speed.py simulation calibration iteration depth timesteps images processes

simulation   an SNN against T forward passes of its ANN, and against SpikingJelly (if it is installed)
calibration  baseline and lcp against one simulation of the same images
threshold    MMSE thresholds of a stage against the literal search, by the number of candidates
iteration    an SGD iteration of the weights against its arithmetic alone, stage by stage
depth, timesteps, images   how the seconds of lcp grow
processes    two processes against one, by wall clock, through calibrate.py
profile      where lcp and acp spend their time
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from others import spikingjelly
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from snn_lightning import ACP, LCP, MMSE, Baseline, Pipeline, Weights, calibrate, convert
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.steps.weights import LayerLoop
from snn_lightning.calibration.walk.context import StageContext, StepReport
from snn_lightning.files import write_atomically
from snn_lightning.models import create_model
from snn_lightning.spiking.neurons.dynamics import clip_round
from snn_lightning.thresholds import histogram, row_maximum

MODELS: dict[str, dict[str, Any]] = {"vgg16_bn": {}, "resnet20": {"width": 16}, "mobilenet": {}}
NARROW = {"vgg16_bn": {"width": 0.25}, "mobilenet": {"width": 0.5}}
"""Calibrated beside those: narrower, and so with a larger part of what isn't convolution."""

BATCH = 128
"""Images and time steps at once, of the ANN's forward passes as of the SNN's."""


def build(
    name: str, image_size: int = 32, num_classes: int = 10, device: str = "cpu", **settings: Any
) -> nn.Module:
    """Return a network with random weights and the batch norms' statistics of the images."""
    torch.manual_seed(0)
    settings = MODELS.get(name, {}) | settings
    ann = create_model(name, num_classes=num_classes, in_channels=3, image_size=image_size, **settings)
    for module in ann.to(device).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        ann.train()(images(64, image_size).to(device))
    return ann.eval().to(memory_format=torch.channels_last)


def images(count: int, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, size, size, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def medians(
    repeats: int, clock: Callable[[], float] = time.process_time, **runs: Callable[[], object]
) -> dict[str, float]:
    """Return the median seconds of each on the clock, run in turns after one round that doesn't count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            started = clock()
            with torch.no_grad():
                run()
            if repeat:
                seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def lcp(ann: nn.Module, x: Tensor, pipeline: Pipeline) -> Callable[[], object]:
    return partial(calibrate, ann, [x], pipeline, progress=False)


def simulation(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name in args.models:
        ann, batch = build(name), images(BATCH)
        for timesteps in (8, 32):
            x = batch[: args.images or (32 if timesteps == 8 else 8)]
            snn = convert(ann, batch, timesteps)
            runs = {"ann": partial(ann, batch), "folded": partial(snn.network, batch), "snn": partial(snn, x)}
            others = spikingjelly(ann, batch, x, timesteps, snn(x))
            seconds = medians(args.repeats, **runs, **others)
            passes = timesteps * len(x) / BATCH
            row = {
                "model": name,
                "T": timesteps,
                "SNN / T ANN passes": seconds["snn"] / seconds["ann"] / passes,
                "SNN / T passes, batch norm folded": seconds["snn"] / seconds["folded"] / passes,
                "images a second": len(x) / seconds["snn"],
            }
            if others:
                row["SpikingJelly / SNN"] = min(seconds[key] for key in others) / seconds["snn"]
            rows.append(row)
    return rows


def calibration(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name, narrow in [(n, narrow) for n in args.models for narrow in (False, True)[: 1 + (n in NARROW)]]:
        settings = MODELS[name] | (NARROW[name] if narrow else {})
        ann = build(name, **settings)
        for timesteps in (8, 32):
            x = images(args.images or (256 if timesteps == 8 else 128))
            snn = convert(ann, x[:BATCH], timesteps)
            runs = {"baseline": lcp(ann, x, Baseline(timesteps)), "lcp": lcp(ann, x, LCP(timesteps))}
            seconds = medians(args.repeats, snn=partial(snn, x), **runs)
            row = {"model": name, "width": settings.get("width", 1), "T": timesteps, "images": len(x)}
            rows.append({**row, **{f"{key} / simulation": seconds[key] / seconds["snn"] for key in runs}})
    return rows


def threshold(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the seconds of the thresholds of a stage of 64 channels of 16x16, 256 images, T=8."""
    chunks = [x.relu() for x in torch.randn(16, 16, 64, 16, 16)]

    def ours(search: MMSE) -> Tensor:
        maximum = row_maximum(chunks, True)
        return search.find(histogram(chunks, maximum, True, search.bins(8)), 8, True)

    def literal(grid: int) -> Tensor:
        maximum, errors = row_maximum(chunks, True), []
        for j in range(1, grid + 1):
            v_th = (maximum * j / grid).view(-1, 1, 1)
            parts = [
                (clip_round(x, 8, v_th) - x).square().sum((0, 2, 3), dtype=torch.float64) for x in chunks
            ]
            errors.append(torch.stack(parts).sum(0))
        return maximum * (torch.stack(errors).argmin(0) + 1) / grid

    rows: list[dict[str, Any]] = []
    for grid in (10, 100, 1000):
        runs = {"CPU s": partial(ours, MMSE(grid=grid)), "literal, CPU s": partial(literal, grid)}
        if grid == 1000:
            rows.append({"candidates": grid, **medians(args.repeats, **{"CPU s": runs["CPU s"]})})
            continue
        found, expected = (run() for run in runs.values())
        same = ((found - expected).abs() < 1e-6).double().mean().item()
        rows.append({"candidates": grid, **medians(args.repeats, **runs), "same threshold": same})
    return rows


@register_step
@dataclass(frozen=True)
class Timing(Step):
    """Times the SGD of a stage, and its forward, backward and update on a mini-batch that lies ready."""

    weights: Weights = field(default_factory=lambda: Weights(50, learning_rate=1e-9))

    def run(self, context: StageContext) -> StepReport:
        loop = LayerLoop(self.weights, context)
        count, target = self.weights.iterations, loop.targets[: self.weights.batch_size]
        inputs = {key: value[: len(target)] for key, value in loop.inputs.items()}
        optimizer = torch.optim.SGD(loop.weights, lr=1e-9, momentum=self.weights.momentum)
        unit, network = context.unit, context.snn.network

        def arithmetic() -> None:
            for weight in loop.weights:
                weight.requires_grad_(True)
            for _ in range(count):
                optimizer.zero_grad()
                current = network.run_operators(context.stage.operators, inputs)[context.stage.current]
                (unit.expected_rate(current, context.timesteps) - target).square().sum().backward()
                optimizer.step()

        grad = torch.enable_grad()
        seconds = medians(3, loop=grad(loop.run), arithmetic=grad(arithmetic))
        for weight in loop.weights:
            weight.requires_grad_(False)
            weight.grad = None
        context.cache.release()
        each = 1000 * seconds["loop"] / count
        overhead = 1 - seconds["arithmetic"] / seconds["loop"]
        return StepReport(float("nan"), details={"ms an iteration": each, "overhead": overhead})


@dataclass(frozen=True)
class Timed(Pipeline):
    timing: Timing = field(default_factory=Timing)


def iteration(args: argparse.Namespace) -> list[dict[str, Any]]:
    snn = calibrate(build("resnet20"), [images(256)], Timed(8), progress=False)
    return [
        {"stage": record["path"] or record["name"]}
        | {key: record["steps"]["timing"][key] for key in ("ms an iteration", "overhead")}
        for record in snn.records
    ]


class Plain(nn.Module):
    """Equal convolutions with batch norm, one after the other."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Conv2d(3 if i == 0 else 32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def growth(args: argparse.Namespace, what: str, values: Iterable[int]) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    runs = {}
    for value in values:
        sizes = {"depth": 8, "timesteps": 16, "images": 128, what: value}
        ann, x = Plain(sizes["depth"]).eval(), images(sizes["images"])[..., :16, :16]
        runs[str(value)] = lcp(ann, x, LCP(sizes["timesteps"]))
    seconds = medians(args.repeats, **runs)
    # The first convolution sees an image that doesn't change: it costs next to nothing.
    unit = {value: s / (int(value) - (what == "depth")) for value, s in seconds.items()}
    mean = statistics.mean(unit.values())
    return [
        {what: int(value), "CPU s": seconds[value], "each, against the mean": unit[value] / mean}
        for value in seconds
    ]


def processes(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "ann.pt"
        torch.manual_seed(0)
        ann = create_model("resnet20", num_classes=10, in_channels=1, image_size=32, width=16)
        torch.save({f"net.{key}": value for key, value in ann.state_dict().items()}, weights)
        for name in ("lcp", "acp"):
            seconds: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(args.repeats):
                for count in seconds:
                    out = Path(folder) / "out"
                    command = [sys.executable, "calibrate.py", "model=resnet20", "model.width=16", "T=16"]
                    command += [f"pipeline={name}", f"ckpt={weights}", "data.calibration_images=512"]
                    command += ["trainer=ddp", f"trainer.devices={count}", "trainer.accelerator=cpu"]
                    command += [f"hydra.run.dir={out}", f"cache_dir={folder}/cache", "data.test_images=32"]
                    command += ["logger=none"]
                    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                    subprocess.run(command, check=True, capture_output=True, env=environment)
                    seconds[count].append(
                        json.loads((out / "results.json").read_text())["seconds"]["calibration"]
                    )
            one, two = (statistics.median(values) for values in seconds.values())
            rows.append({"pipeline": name, "1 process, s": one, "2 processes, s": two, "faster": one / two})
    return rows


def profile(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return where the CPU seconds of the operators go, by what they do."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    rows = []
    ann, x = build("vgg16_bn", width=0.25), images(256)
    for pipeline in (LCP(16), ACP(16, augment=None, held_out=0)):
        lcp(ann, x[:BATCH], pipeline)()
        started = time.process_time()
        with profiler(activities=[ProfilerActivity.CPU]) as profiled:
            lcp(ann, x, pipeline)()
        total = time.process_time() - started
        spent: dict[str, float] = {}
        for event in profiled.key_averages():
            key = next(
                (name for name, part in PARTS.items() if any(p in event.key for p in part)), "other operators"
            )
            spent[key] = spent.get(key, 0.0) + event.self_cpu_time_total / 1e6
        spent["outside PyTorch's operators: neurons, packing, histograms, Python"] = total - sum(
            spent.values()
        )
        rows += [
            {"pipeline": type(pipeline).__name__.lower(), "part": key, "share": seconds / total}
            for key, seconds in sorted(spent.items(), key=lambda item: -item[1])
        ]
    return rows


OUTSIDE = "outside PyTorch's operators: neurons, packing, histograms, Python"
PARTS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions and linear": ("conv", "mkldnn", "addmm", "linear"),
    "pooling": ("pool",),
    "copies and indexing": ("copy_", "index", "cat", "clone", "select"),
    "norms, sums, means": ("norm", "sum", "mean", "amax"),
    "elementwise": ("mul", "add", "sub", "div", "floor", "pow", "clamp", "ge", "le", "where"),
}

SECTIONS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "simulation": simulation,
    "calibration": calibration,
    "threshold": threshold,
    "iteration": iteration,
    "depth": partial(growth, what="depth", values=(4, 8, 16, 32)),
    "timesteps": partial(growth, what="timesteps", values=(8, 16, 32, 64)),
    "images": partial(growth, what="images", values=(64, 128, 256, 512)),
    "processes": processes,
    "profile": profile,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--images", type=int, default=None, help="by default as many as take some seconds")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/speed.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    results = json.loads(args.output.read_text()) if args.output.exists() else {}
    for section in args.sections or SECTIONS:
        rows = SECTIONS[section](args)
        table = Table(*rows[0], title=section, title_justify="left")
        for row in rows:
            table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row.values()))
        console.print(table)
        results[section] = {"torch": torch.__version__, "machine": platform.machine(), "rows": rows}
        write_atomically(args.output, (json.dumps(results, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
