"""What simulation and the light pipeline cost, as ratios of CPU seconds in one run on one thread.

python benchmarks/cost.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from snn_lightning import LCP, calibrate, convert
from snn_lightning.models import create_model

MODELS = {"resnet20": {"width": 16}, "vgg16_bn": {"width": 0.25}}


def cpu_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4, 16])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("model", "T", "simulation / T ANN forwards", "LCP / simulation", "LCP, CPU s")
    for name, settings in MODELS.items():
        torch.manual_seed(0)
        ann = create_model(name, num_classes=10, in_channels=1, image_size=32, **settings).eval()
        ann = ann.to(memory_format=torch.channels_last)
        images = torch.randn(args.images, 1, 32, 32)
        for timesteps in args.timesteps:
            snn = convert(ann, images, timesteps)
            forwards, simulations, seconds = [], [], []
            for _ in range(args.repeats):
                parts, pipeline = images.split(128), LCP(timesteps)
                with torch.no_grad():
                    forward = timesteps * cpu_seconds(lambda a=ann, xs=parts: [a(x) for x in xs])
                lcp = cpu_seconds(lambda a=ann, xs=parts, p=pipeline: calibrate(a, xs, p, progress=False))
                simulation = cpu_seconds(lambda s=snn, x=images: s(x))
                forwards.append(simulation / forward)
                simulations.append(lcp / simulation)
                seconds.append(lcp)
            cells = [f"{statistics.median(values):.2f}" for values in (forwards, simulations, seconds)]
            table.add_row(name, str(timesteps), *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
