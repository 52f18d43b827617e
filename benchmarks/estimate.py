"""The cost model against real calibrations: seconds foreseen, and the time left foretold on the way.

python benchmarks/estimate.py

Seconds are CPU seconds of one thread, so that other jobs on the machine matter less. Networks have random
weights. The time left is looked at after every stage from the third to the last but one, and at every report
of the SGD inside them.
"""

import argparse
import time
from dataclasses import dataclass, field, replace

import torch
from rich.console import Console
from rich.table import Table
from rows import Rows
from speed import MODELS, NARROW, build, images

from snn_lightning import ACP, LCP, Best, Distillation, Pipeline
from snn_lightning.analysis.cost.operations import estimate_cost
from snn_lightning.analysis.cost.timing import estimate_seconds, measure_prices
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.eta import StageCosts, TimeLeft
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.records import StageRecord
from snn_lightning.graph import normalise, prepare

KEYS = ("model", "pipeline", "images", "timesteps")
PIPELINES: dict[str, Pipeline] = {
    "lcp": LCP(8),
    "acp": ACP(8, augment=None, held_out=0),
    "best": Best(8, augment=None, held_out=0, distillation=Distillation(iterations=100)),
}
"""Of the best one a hundred iterations, so that it takes minutes."""
THIRD = 2


@dataclass
class Foretold(Observer):
    """Writes down what the progress bar would show: (now, seconds left)."""

    seen: list[tuple[float, float]] = field(default_factory=list)

    def begin(self, costs: StageCosts) -> None:
        self.left = TimeLeft(costs, time.process_time)

    def iteration(self, index: int, iteration: int, iterations: int, loss: float) -> None:
        self._look(index, iteration / iterations)

    def stage_finished(self, record: StageRecord, total: int) -> None:
        self._look(record.index + 1)

    def _look(self, index: int, loop: float = 0.0) -> None:
        self.left.reached(index, loop)
        if THIRD <= index < len(self.left.costs.stages) - 1 and self.left.seconds is not None:
            self.seen.append((time.process_time(), self.left.seconds))


def measure(args: argparse.Namespace, console: Console) -> Rows:
    rows = Rows(args.output, KEYS, {"threads": 1})
    for model in args.models:
        ann = build(model, **NARROW.get(model, {}))
        for count in args.images:
            batches = list(images(count).split(128))
            for timesteps in args.timesteps:
                for name in args.pipelines:
                    key = (model, name, count, timesteps)
                    if rows.has(*key):
                        continue
                    pipeline = replace(PIPELINES[name], timesteps=timesteps)
                    row = rows.add(key, **compare(ann, batches, pipeline))
                    console.print(*row.values())
    return rows


def compare(ann: torch.nn.Module, batches: list[torch.Tensor], pipeline: Pipeline) -> dict[str, float]:
    sample, work = batches[0], pipeline.work(sum(len(batch) for batch in batches))
    network = prepare(normalise(ann, sample), sample)
    cost = estimate_cost(network, sample.shape[1:], work)
    estimated = estimate_seconds(cost, measure_prices(network, sample, work)).calibration
    observer, started = Foretold(), time.process_time()
    run_calibration(ann, list(batches), pipeline, Communicator(), observer)
    ended = time.process_time()
    ratios = [left / (ended - now) for now, left in observer.seen]
    return {
        "estimated": estimated,
        "measured": ended - started,
        "ratio": estimated / (ended - started),
        "time left, least": min(ratios),
        "time left, most": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=["lcp", "acp"])
    parser.add_argument("--images", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--timesteps", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--output", default="benchmarks/results/estimate.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(soft_wrap=True)
    rows = measure(args, console)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row.values()))
    console.print(table)


if __name__ == "__main__":
    main()
