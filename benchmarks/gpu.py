"""What simulation and calibration cost on a GPU, part by part within a time budget; run benchmarks/gpu.sh.

tests        the gpu-marked tests
calibration  lcp and acp on ResNet-34 by wall clock
simulation   an SNN against T forward passes of its ANN, for each network and variant
kernels      where the time of a simulation goes on the GPU

Each part runs in a process of its own: one that fails, dies or takes too long leaves the others alone.
"""

import argparse
import copy
import gc
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

try:
    from parts import Row, device, failure, machine, markdown, run_part
    from speed import build, images, medians

    from snn_lightning import ACP, LCP, SpikingModel, Weights, calibrate, convert
    from snn_lightning.files import write_atomically
    from snn_lightning.graph.precision import float32_products
except ModuleNotFoundError as error:
    raise SystemExit(
        f"{error.name} is missing: install it, or name a folder with it by CARRIED; see benchmarks/README.md."
    ) from error

ROOT = Path(__file__).parents[1]
PIPELINES = {"lcp": LCP, "acp": ACP}
PUBLISHED = {"lcp": 70, "acp": 829}
"""Seconds of light and advanced calibration in a table of the paper LTB, on an RTX 4090."""


@dataclass(frozen=True)
class Sizes:
    """What is measured; `widths` are settings of the networks by name."""

    image: int = 224
    classes: int = 1000
    batch: int = 64
    repeats: int = 3
    timesteps: tuple[int, ...] = (16, 32)
    calibration_images: int = 1024
    calibration_timesteps: tuple[int, ...] = (32, 64)
    weights: Weights = Weights()  # noqa: RUF009
    widths: dict[str, dict[str, Any]] = field(default_factory=dict)


NARROW = {"vgg16_bn": {"width": 0.0625}, "resnet34": {"width": 4}, "mobilenet": {"width": 0.125}}
TINY = Sizes(32, 10, 4, 1, (2,), 8, (2,), Weights(2, batch_size=4), NARROW)


@dataclass(frozen=True)
class Variant:
    """A way to run ANN and SNN; `rows` are the SNN's images times time steps at once."""

    name: str
    precision: str
    channels_last: bool = True
    graph: bool = False
    rows: int = 128


VARIANTS = (
    Variant("eager", "float32", channels_last=False),
    Variant("channels_last", "float32"),
    Variant("tf32", "tf32"),
    Variant("bf16", "bf16"),
    Variant("bf16, 1024 rows", "bf16", rows=1024),
    Variant("bf16, CUDA graph", "bf16", graph=True),
)


def clock() -> float:
    """Return wall-clock seconds when the GPU has done all its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak(run: Callable[[], object]) -> float | None:
    """Return the largest GPU memory of a run in GiB; None on a CPU."""
    if not torch.cuda.is_available():
        run()
        return None
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**30


def guarded(key: Row, measure: Callable[[], Row]) -> Row:
    """Return a row, with a message in place of what can't be measured; gives its memory back."""
    try:
        with torch.no_grad():
            return key | measure()
    except Exception as error:
        return key | failure(error)
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def tests(sizes: Sizes) -> Iterator[Row]:
    """Yield the summary of the gpu-marked tests."""
    if importlib.util.find_spec("pytest") is None:
        yield {"failed": "pytest is missing"}
        return
    # The other tests, and the fixtures of all, need packages that may be missing.
    files = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()]
    fixtures = [] if importlib.util.find_spec("hydra") else ["--noconftest"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *fixtures, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    row = {"summary" if done.returncode == 0 else "failed": lines[-1]}
    yield row | {"tests": [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))]}


def calibration(pipeline: str, timesteps: int, sizes: Sizes) -> Iterator[Row]:
    """Yield the seconds of one calibration of ResNet-34."""
    ann = network("resnet34", sizes)
    batches = list(images(sizes.calibration_images, sizes.image).split(sizes.batch))
    ann(batches[0].to(device()))
    # Currents held without a limit would take T times the activations of a layer.
    budget = torch.cuda.mem_get_info()[0] / 2e9 if device() == "cuda" else None
    settings: Row = {"cache_budget_gb": budget} | ({"weights": sizes.weights} if pipeline == "acp" else {})

    def measure() -> Row:
        started = clock()
        snn = calibrate(ann, batches, PIPELINES[pipeline](timesteps, **settings), progress=False)
        records = sorted(snn.records, key=lambda record: -record["seconds"])
        rates = [record["firing_rate"] for record in snn.records if record["firing_rate"] is not None]
        return {
            "seconds": clock() - started,
            "published, RTX 4090, s": PUBLISHED[pipeline],
            "relative error of the readout": snn.records[-1]["error"],
            "firing rate": sum(rates) / len(rates),
            "slowest stages": [f"{r['path'] or r['name']} {r['seconds']:.1f} s" for r in records[:3]],
        }

    def measured() -> Row:
        row: Row = {}
        return {"peak GiB": peak(lambda: row.update(measure()))} | row

    key = {"model": "ResNet-34", "pipeline": pipeline, "T": timesteps, "images": sizes.calibration_images}
    yield guarded(key | {"cache budget GB": budget}, measured)


def network(name: str, sizes: Sizes) -> nn.Module:
    return build(name, sizes.image, sizes.classes, device(), **sizes.widths.get(name, {}))


def simulation(name: str, sizes: Sizes) -> Iterator[Row]:
    """Yield what a simulation costs against T forward passes, a row a number of time steps and variant."""
    ann, x = network(name, sizes), images(sizes.batch, sizes.image).to(device())
    for timesteps in sizes.timesteps:
        snn = convert(ann, x[:16], timesteps)
        trains = snn.spikes(x[:1]).values()
        rate = sum((train != 0).double().mean().item() for train in trains) / len(trains)
        for variant in VARIANTS:
            key = {"model": name, "T": timesteps, "firing rate": rate, "variant": variant.name}
            yield guarded(key, partial(compare, ann, snn, x, variant, sizes.repeats))


def compare(ann: nn.Module, snn: SpikingModel, x: Tensor, variant: Variant, repeats: int) -> Row:
    """Return the times and the memory of one variant."""
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    ann, x = copy.deepcopy(ann).to(memory_format=layout), x.contiguous(memory_format=layout)
    snn.precision, snn.rows = variant.precision, variant.rows
    kind = torch.bfloat16 if variant.precision == "bf16" else torch.float32
    runs = {
        "ANN": partial(ann.to(kind), x.to(kind)),
        "folded": partial(snn.network, x),
        "SNN": partial(snn, x),
    }
    memory = {}
    # The ANN's too: by PyTorch's default it would multiply in TF32.
    with float32_products(variant.precision):
        for name, run in runs.items():
            if variant.graph:
                memory[name] = peak(lambda name=name, run=run: runs.update({name: graphed(run)}))
            else:
                memory[name] = peak(run)
        seconds = medians(repeats, clock, **runs)
    return {
        "ANN ms": 1000 * seconds["ANN"],
        "SNN ms": 1000 * seconds["SNN"],
        "SNN / T ANN passes": seconds["SNN"] / seconds["ANN"] / snn.timesteps,
        "SNN / T passes, batch norm folded": seconds["SNN"] / seconds["folded"] / snn.timesteps,
        "images a second": len(x) / seconds["SNN"],
        "ANN peak GiB": memory["ANN"],
        "SNN peak GiB": memory["SNN"],
    }


def graphed(run: Callable[[], object]) -> Callable[[], None]:
    """Return the replay of a run that is captured in a CUDA graph."""
    if not torch.cuda.is_available():
        raise RuntimeError("a CUDA graph needs a CUDA device")
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def kernels(sizes: Sizes) -> Iterator[Row]:
    """Yield the kernels (on a CPU operators) with most of the time of a simulation, and the rest of it."""
    ann, x = network("resnet34", sizes), images(sizes.batch, sizes.image).to(device())
    snn = convert(ann, x[:16], sizes.timesteps[-1], precision="bf16")
    on_gpu = device() == "cuda"
    activities = [getattr(torch.profiler.ProfilerActivity, device().upper())]
    with torch.no_grad():
        snn(x)
        with torch.profiler.profile(activities=activities) as profiled:
            started = clock()
            snn(x)
            seconds = clock() - started
    spent = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.key, event.count)
        for event in profiled.key_averages()
    ]
    for microseconds, name, count in sorted(spent, reverse=True)[:12]:
        yield {"kernel": name[:80], "calls": count, "share of the time": microseconds / 1e6 / seconds}
    busy = sum(entry[0] for entry in spent) / 1e6 / seconds
    yield {"kernel": "no kernel at all", "calls": None, "share of the time": max(0.0, 1 - busy)}


def parts(sizes: Sizes) -> dict[str, Callable[[], Iterator[Row]]]:
    """Return what is measured, what is wanted most first."""
    few, *more = sizes.calibration_timesteps
    found: dict[str, Callable[[], Iterator[Row]]] = {"tests": partial(tests, sizes)}

    def calibrations(timesteps: int) -> None:
        for name in PIPELINES:
            found[f"calibration {name} T={timesteps}"] = partial(calibration, name, timesteps, sizes)

    calibrations(few)
    for name in ("resnet34", "mobilenet", "vgg16_bn"):
        found[f"simulation {name}"] = partial(simulation, name, sizes)
    for timesteps in more:
        calibrations(timesteps)
    return found | {"kernels": partial(kernels, sizes)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = ("tests", "calibration", "simulation", "kernels")
    parser.add_argument("parts", nargs="*", choices=[*groups, []], default=[])
    parser.add_argument("--tiny", action="store_true", help="small sizes, on a CPU too: shows that it runs")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all parts together")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="a folder")
    args = parser.parse_args()
    deadline = time.perf_counter() + args.budget
    # In a process of its own: this one must not touch CUDA, or the parts, its forks, could not.
    (found,) = run_part(machine, 60)["rows"]
    if found.get("kind") != "cuda" and not args.tiny:
        raise SystemExit(
            f"No CUDA device: torch is {torch.__version__}, its CUDA {torch.version.cuda}, the driver "
            f"{found.get('driver', found)}. Run on a machine with one, or try on the CPU with --tiny."
        )
    sizes = TINY if args.tiny else Sizes()
    results: Row = {"tiny": args.tiny, "sizes": asdict(sizes), "machine": found, "parts": {}}
    args.output.mkdir(parents=True, exist_ok=True)
    for name, run in parts(sizes).items():
        if name.split()[0] not in (args.parts or groups):
            continue
        # Half of the time at most, so that one part doesn't cost all others.
        part = run_part(run, min(deadline - time.perf_counter(), args.budget / 2))
        results["parts"][name] = part
        print(f"{name}: {part['state']}, {part['seconds']:.1f} s", flush=True)
        write_atomically(args.output / "gpu.json", (json.dumps(results, indent=2) + "\n").encode())
        write_atomically(args.output / "gpu.md", markdown(results).encode())
    print(markdown(results))


if __name__ == "__main__":
    main()
