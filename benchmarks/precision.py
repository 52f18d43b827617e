"""What synapses in bfloat16 change: the spikes of each site, and the accuracy, on Fashion-MNIST.

python benchmarks/precision.py --timesteps 4 8 32 --seeds 0

The ANNs are those of accuracy.py, kept in cache/benchmarks; the images are the first of the validation set.
Every variant is compared with the SNN that was calibrated and runs in float32:

    float64       the same SNN in float64: what the last bits of float32 change
    run           the same SNN with its synapses in bf16
    run, unit     that after rescaling to {0, 1} spikes, which bf16 does not round; the weights hold the scale
    calibrated    calibrated and run in bf16

Rows that the output file already has are not measured again; delete it to start afresh.
"""

import argparse
import copy
import logging
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from accuracy import PIPELINES, accuracy
from rich.console import Console
from rich.table import Table
from rows import Rows
from torch import Tensor
from validation import add_arguments, networks

from snn_lightning import SpikingModel, calibrate, rescale_to_unit_spikes
from snn_lightning.graph import normalise

KEYS = ("model", "seed", "timesteps", "pipeline", "variant")
VARIANTS = ("float32", "float64", "run", "run, unit", "calibrated")


def fired(snn: SpikingModel, images: Tensor) -> dict[str, Tensor]:
    """Where spikes are, `[T, N, C, ...]` by site."""
    parts = [snn.spikes(part) for part in images.split(snn.images_at_once)]
    return {name: torch.cat([part[name] != 0 for part in parts], 1) for name in parts[0]}


def shares(snn: SpikingModel, reference: SpikingModel, images: Tensor) -> dict[str, Any]:
    """Spikes that differ over the spikes of the reference, of each site and of all, and what else changes.

    A spike differs where one network fires and the other doesn't; counts are those of a neuron over all
    time steps.
    """
    sums: dict[str, Tensor] = {}
    dtype = next(snn.parameters()).dtype
    for part in images.split(64):
        expected, got = fired(reference, part), fired(snn, part.to(dtype))
        for name, train in expected.items():
            other = got[name]
            moved = train.sum(0) != other.sum(0)
            counts = [(train != other).sum(), train.sum(), other.sum(), moved.sum()]
            row = torch.tensor([*map(int, counts), moved.numel()], dtype=torch.float64)
            sums[name] = sums[name] + row if name in sums else row
    differ, spikes, others, moved, neurons = torch.stack(list(sums.values())).sum(0).tolist()
    return {
        "differ": differ / spikes,
        "more": others / spikes - 1,
        "counts": moved / neurons,
        "sites": {name: (row[0] / row[1]).item() for name, row in sums.items()},
    }


def variants(
    ann: torch.nn.Module, loader: Any, pipeline: Any, timesteps: int, seed: int
) -> Iterator[tuple[str, SpikingModel]]:
    """The SNN of each variant, that of the reference first."""
    snn = calibrate(ann, loader, pipeline(timesteps, seed=seed), progress=False)
    yield "float32", snn
    yield "float64", copy.deepcopy(snn).double()
    for name, model in (("run", copy.deepcopy(snn)), ("run, unit", rescale_to_unit_spikes(snn))):
        model.precision = "bf16"
        yield name, model
    yield (
        "calibrated",
        calibrate(ann, loader, pipeline(timesteps, seed=seed, precision="bf16"), progress=False),
    )


def measure(args: argparse.Namespace, console: Console) -> Rows:
    names = ("calibration_images", "validation_images", "spike_images")
    rows = Rows(args.output, KEYS, {name: getattr(args, name) for name in names}, ("lightning",))
    for model, seed, data, ann, images, labels in networks(args):
        rounded = normalise(ann, images[:8])
        rounded.precision = "bf16"
        with torch.no_grad():
            anns = {"ann": accuracy(ann(images), labels), "ann_bf16": accuracy(rounded(images), labels)}
        for timesteps in args.timesteps:
            for key in args.pipelines:
                if all(rows.has(model, seed, timesteps, key, name) for name in args.variants):
                    continue
                loader = data.calibration_dataloader()
                reference = None
                for name, snn in variants(ann, loader, PIPELINES[key], timesteps, seed):
                    reference = reference or snn
                    if name not in args.variants or rows.has(model, seed, timesteps, key, name):
                        continue
                    started = time.process_time()
                    logits = snn(images.to(next(snn.parameters()).dtype))
                    row = rows.add(
                        (model, seed, timesteps, key, name),
                        **anns,
                        snn=accuracy(logits, labels),
                        cpu_seconds=time.process_time() - started,
                        **shares(snn, reference, images[: args.spike_images]),
                    )
                    console.print({k: v for k, v in row.items() if k != "sites"})
    return rows


def table(rows: Rows) -> Table:
    """Means over seeds."""
    result = Table(
        "model", "T", "pipeline", "variant", "ANN %", "ANN bf16 %", "SNN %", "spikes that differ %",
        "first, median, last site %", "more spikes %", "counts that differ %", "CPU s",
    )  # fmt: skip
    for key in dict.fromkeys((r["model"], r["timesteps"], r["pipeline"], r["variant"]) for r in rows):
        group = [r for r in rows if (r["model"], r["timesteps"], r["pipeline"], r["variant"]) == key]
        mean = {
            name: statistics.mean(r[name] for r in group)
            for name in ("ann", "ann_bf16", "snn", "differ", "more", "counts", "cpu_seconds")
        }
        sites = [list(r["sites"].values()) for r in group]
        kinds = [[s[0] for s in sites], [statistics.median(s) for s in sites], [s[-1] for s in sites]]
        model, timesteps, pipeline, variant = key
        result.add_row(
            model, str(timesteps), pipeline, variant,
            *(f"{100 * mean[name]:.2f}" for name in ("ann", "ann_bf16", "snn")),
            f"{100 * mean['differ']:.3f}",
            ", ".join(f"{100 * statistics.mean(values):.3f}" for values in kinds),
            f"{100 * mean['more']:+.2f}", f"{100 * mean['counts']:.2f}", f"{mean['cpu_seconds']:.1f}",
        )  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=["acp"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--spike-images", type=int, default=256, help="on which spikes are compared")
    add_arguments(parser, "benchmarks/results/precision.json", calibration_images=256, validation_images=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    console = Console(width=160)
    console.print(table(measure(args, console)))


if __name__ == "__main__":
    main()
