"""The largest resident set of a calibration, with a budget for its cache and without.

python benchmarks/memory.py --model vgg16_bn --timesteps 32 --images 1024 --budget-gb 1.073741824
"""

import argparse
import hashlib
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from snn_lightning import ACP, LCP, calibrate
from snn_lightning.files import write_atomically
from snn_lightning.models import create_model

PIPELINES = {"lcp": LCP, "acp": ACP}


def run(settings: dict[str, Any], budget: float | None) -> dict[str, Any]:
    """Calibrate in this process; its largest resident set is that of this run alone."""
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    ann = create_model(
        settings["model"], num_classes=10, in_channels=3, image_size=32, **settings["settings"]
    )
    images = torch.randn(settings["images"], 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipeline = PIPELINES[settings["pipeline"]](settings["timesteps"], cache_budget_gb=budget)
    started = time.process_time()
    snn = calibrate(ann.eval(), list(images.split(128)), pipeline, progress=True)
    digest = hashlib.sha256()
    for value in snn.state_dict().values():
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return {
        "budget, GiB": None if budget is None else budget * 1e9 / 2**30,
        "peak resident set, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "of it before the calibration, GiB": before / 2**20,
        "CPU s": time.process_time() - started,
        "parameters, SHA-256": digest.hexdigest()[:16],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vgg16_bn")
    parser.add_argument("--settings", type=json.loads, default={}, help='of the model, as {"width": 0.25}')
    parser.add_argument("--pipeline", choices=list(PIPELINES), default="lcp")
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget-gb", type=float, default=2**30 / 1e9, help="of 10^9 bytes")
    parser.add_argument("--unlimited", action="store_true", help="run without a budget too, and compare")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/memory.json"))
    args = parser.parse_args()
    keys = ("model", "settings", "pipeline", "timesteps", "images", "threads")
    settings = {key: getattr(args, key) for key in keys}
    # A process a run: a resident set only grows.
    context, rows = multiprocessing.get_context("spawn"), []
    for budget in (args.budget_gb, None) if args.unlimited else (args.budget_gb,):
        with context.Pool(1) as pool:
            rows.append(settings | pool.apply(run, (settings, budget)))
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row.values()))
    Console(width=160).print(table)
    kept = json.loads(args.output.read_text()) if args.output.exists() else []
    same = [{key: row.get(key) for key in settings} for row in rows]
    kept = [row for row in kept if {key: row.get(key) for key in settings} not in same]
    write_atomically(args.output, (json.dumps(kept + rows, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
