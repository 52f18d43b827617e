"""What the papers call what a run is about."""

from __future__ import annotations

from typing import Any

from snn_lightning.analysis.results import score_names
from snn_lightning.report.compare.runs import Run
from snn_lightning.report.compare.settings import look_up

NETWORKS = {
    "resnet20": "ResNet-20",
    "resnet34": "ResNet-34",
    "vgg16": "VGG-16",
    "vgg16_bn": "VGG-16",
    "mobilenet": "MobileNet",
    "mnasnet": "MNasNet×2",
    "regnetx_4gf": "RegNetX-4GF",
    "retinanet": "RetinaNet",
    "faster_rcnn": "Faster R-CNN",
}
DATA = {
    "coco": "COCO",
    "imagenet": "ImageNet",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "digits",
}
THRESHOLDS = {"Max": "MaxAct", "Percentile": "Percentile", "MMSE": "MMSE"}
PIPELINES = {
    "robust_norm": "Robust-Norm",
    "spike_norm": "Spike-Norm",
    "hybrid": "Hybrid Train",
    "rmp": "RMP",
    "tsc": "TSC",
    "rnl": "RNL",
    "opt": "Opt.",
    "max_act": "MaxAct",
    "baseline": "Baseline",
    "lcp": "LCP",
    "potential": "Potential",
    "acp": "ACP",
    "weights": "Weights",
}
"""The papers' names, in the papers' order."""
SOURCES = {"real": "Original {} Data", "synthetic": "Distilled Fake Data"}


def score(run: Run, network: str = "snn", name: str | None = None) -> float | None:
    """Return a score, the first one by itself, of a run's network, "snn" or "ann"."""
    return run.results.get(f"{network}_{name or score_names(run.results)[0]}")


def network(run: Run) -> str:
    """Return the network's name."""
    return NETWORKS.get(run.network[0], run.network[0])


def on(run: Run) -> str:
    """Return the data set's name."""
    return DATA.get(run.network[1], run.network[1])


def setting(run: Run, name: str) -> Any:
    """Return a setting of a run, as the command line names it."""
    return look_up(run.results.get("config") or {}, name)


def batch_norm(run: Run) -> bool:
    """Whether the ANN was trained with batch norm."""
    return bool(setting(run, "model.batch_norm") is not False and run.network[0] != "vgg16")


def pipeline(run: Run) -> str:
    """Return the pipeline's name, without the "_paper" of the papers' own settings."""
    return run.pipeline.removesuffix("_paper")


def threshold(run: Run) -> str:
    """Return how thresholds were found; * where each channel has its own."""
    target = str(setting(run, "pipeline.threshold._target_")).rpartition(".")[2]
    percent = setting(run, "pipeline.threshold.percentile")
    name = THRESHOLDS.get(target, target) + ("" if percent is None else f" {percent}%")
    return name + ("*" if setting(run, "pipeline.threshold.granularity") == "channel" else "")


def rounding(run: Run) -> str:
    """Return which function the neuron is meant to be."""
    return "ClipFloor" if setting(run, "pipeline.rounding") == "floor" else "ClipRound"


def images(run: Run) -> int:
    """Return how many images there were to calibrate with."""
    return setting(run, "data.calibration_images") or 0


def source(run: Run) -> str:
    """Return what PC Table 7 calls the calibration images."""
    name = setting(run, "data_source") or "real"
    return SOURCES.get(name, name).format(on(run))


def method(run: Run) -> str:
    """Return what PC Tables 2 and 3 call a method."""
    name = PIPELINES.get(pipeline(run), pipeline(run))
    return f"Baseline + {name}" if pipeline(run) in ("lcp", "acp") else name
