"""The table of a spiking network's stages, neurons and thresholds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snn_lightning.graph.report import ConversionReport

_KINDS = {
    ("operators", "weight"): "weights",
    ("operators", "bias"): "biases",
    ("units", "v_th"): "thresholds",
    ("units", "v_init"): "initial potentials",
    ("units", "bias"): "bias currents",
}
"""The kinds of numbers that are saved, by the owner and the name of the tensor."""


@dataclass(frozen=True)
class SpikingReport(ConversionReport):
    """What was converted, with thresholds; print it for a table.

    Args:
        neuron: the kind of neurons.
        timesteps: T.
        latency_steps: time steps from the first of an inference to its output.
        status: "uncalibrated", "partial" or "calibrated".
        thresholds: smallest, median and largest of each site, activation units, by the stage's name.
        saved: how many numbers of each kind a checkpoint holds.
    """

    neuron: str = ""
    timesteps: int = 1
    latency_steps: int = 1
    status: str = ""
    thresholds: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line: how many sites are neurons, and of which kind."""
        return (
            f"Converted: {self.sites} sites are {self.neuron} neurons, {self.left_analog}; "
            f"T={self.timesteps}, {self.status}"
        )

    def columns(self) -> dict[str, Mapping[str, str]]:
        """Return what the table says of neurons; see `ConversionReport.columns`."""
        headings = ("smallest v_th", "median", "largest")
        parts = ({name: f"{v[i]:.4g}" for name, v in self.thresholds.items()} for i in range(3))
        return {**super().columns(), **dict(zip(headings, parts, strict=True))}

    def footer(self) -> list[str]:
        """Return the lines below the table."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.saved.items())
        windows = self.latency_steps // self.timesteps
        latency = f"An inference takes {windows} x {self.timesteps} = {self.latency_steps} time steps"
        return [latency, *super().footer(), f"Saved: {kinds}; {sum(self.saved.values()):,} numbers in all"]


def spread(v_th: Tensor) -> tuple[float, float, float]:
    """Return the smallest, the median and the largest of thresholds `[]` or `[C]`; NaN on the meta device."""
    if v_th.is_meta:
        return (float("nan"),) * 3
    quantiles = torch.tensor((0.0, 0.5, 1.0), dtype=torch.float64)
    smallest, median, largest = v_th.detach().cpu().double().flatten().quantile(quantiles).tolist()
    return smallest, median, largest


def count_saved(state: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
    """Return how many numbers of each kind the tensors of a state have."""
    counts: Counter[str] = Counter()
    for key, tensor in state:
        *_, owner, _, name = key.split(".")
        analog = ".inner." in key or name.startswith("constant_")
        counts["analog numbers" if analog else _KINDS.get((owner, name), name)] += tensor.numel()
    return dict(counts)
