"""What would convert, and what stands in the way, as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from snn_lightning.errors import ConversionError, SettingsError
from snn_lightning.graph.capture.lowering import Obstacle
from snn_lightning.graph.ir import INPUT
from snn_lightning.graph.macs import spiking_share
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.normalise import lower, normalise, prepare
from snn_lightning.graph.parts import Run, first_received, paths_of
from snn_lightning.graph.settings import GraphSettings
from snn_lightning.tables import aligned


@dataclass(frozen=True)
class ConversionReport:
    """The result of `conversion_report`; print it for a table.

    Args:
        stages: for each stage its name, its kind, the user's module, and its operators.
        obstacles: what can't be converted.
        problem: why the network can't be converted at all, where that isn't one operator.
        caps: the upper bound of each site that has one, activation units, by the stage's name.
        shapes: of the sample (`graph.INPUT`) and of each site, `[C, ...]` without the batch, by the stage's
            name; empty where that is not known.
        windows: of T time steps that an inference takes, one after the other.
        share: of the multiply-accumulates those in synapses that receive spikes, from 0 to 1; None where that
            is not known.
    """

    stages: list[tuple[str, str, str, list[str]]] = field(default_factory=list)
    obstacles: list[Obstacle] = field(default_factory=list)
    problem: str = ""
    caps: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    windows: int = 1
    share: float | None = None

    @property
    def convertible(self) -> bool:
        """Whether the whole network converts."""
        return not self.obstacles and not self.problem

    @property
    def sites(self) -> int:
        """Number of sites that become neurons."""
        return sum(kind == "neuron" for _, kind, _, _ in self.stages)

    @property
    def neurons(self) -> dict[str, int]:
        """Number of neurons at each site for one input of the sample's shape; empty where not known."""
        return {name: math.prod(shape) for name, shape in self.shapes.items() if name != INPUT}

    @property
    def summary(self) -> str:
        """One line: how many sites become neurons."""
        return f"Convertible: {self.sites} sites become neurons, {self.left_analog}"

    @property
    def left_analog(self) -> str:
        """How many operators are left analog, in words."""
        operators = [name for *_, names in self.stages for name in names if name.startswith("analog ")]
        count = len(operators)
        text = f"{count} operator{'s' * (count > 1)} left analog" if count else "nothing left analog"
        return text if self.windows == 1 else f"{text}, {self.windows} windows of T time steps"

    def columns(self) -> dict[str, Mapping[str, str]]:
        """Return what the table says of neurons: under each heading a text by the stage's name."""
        sites = [name for name, kind, _, _ in self.stages if kind == "neuron"]
        neurons = {name: f"{self.neurons[name]:,}" if self.neurons else "-" for name in sites}
        caps = {name: f"{cap:.4g}" for name, cap in self.caps.items()}
        return {"neurons": neurons, **({"cap": caps} if caps else {})}

    def footer(self) -> list[str]:
        """Return the lines below the table."""
        if not self.shapes:
            return ["Neurons: not known, older files don't say"]
        size = " x ".join(map(str, self.shapes[INPUT]))
        others = any(len(shape) > 1 for name, shape in self.shapes.items() if name != INPUT)
        lines = [
            f"Neurons: {sum(self.neurons.values()):,} for one input of {size}, the size of the sample"
            + ("; other sizes have more or fewer" if others else "")
        ]
        if self.share is not None:
            lines.append(f"Synapses: {self.share:.1%} of the multiply-accumulates receive spikes")
        return lines

    def __str__(self) -> str:
        if self.problem and not self.obstacles:
            return f"Not convertible: {self.problem}"
        if self.obstacles:
            lines = [f"Not convertible: {len(self.obstacles)} obstacles"]
            return "\n".join([*lines, *(f"  {i}. {o}" for i, o in enumerate(self.obstacles, 1))])
        return "\n".join([self.summary, *self._table(), *self.footer()])

    def _table(self) -> list[str]:
        columns = self.columns()
        rows = [("stage", "kind", "module", *columns, "operators")]
        for name, kind, path, operators in self.stages:
            cells = (texts.get(name, "") for texts in columns.values())
            rows.append((name, kind, path or "-", *cells, ", ".join(operators) or "-"))
        return aligned(rows, left=(0, 1, 2, len(rows[0]) - 1))


def stage_table(network: StageNetwork) -> list[tuple[str, str, str, list[str]]]:
    """Return name, kind, user's module and operators of each stage, and what stands behind the last one."""

    def row(name: str, kind: str, operators: Iterable[str]) -> tuple[str, str, str, list[str]]:
        node = network.nodes.get(name)
        titles = [getattr(network.operators[key], "title", network.nodes[key].op) for key in operators]
        return name, kind, node.path if node else "", titles

    tail = network.schedule.tail
    rows = [row(stage.name, stage.kind, stage.operators) for stage in network.stages]
    return [*rows, row("tail", "analog", tail)] if tail else rows


def site_caps(network: StageNetwork) -> dict[str, float]:
    """Return the upper bound of each site that has one, activation units."""
    caps = {name: network.nodes[name].settings["cap"] for name in network.sites}
    return {name: cap for name, cap in caps.items() if cap is not None}


def conversion_report(
    ann: nn.Module,
    sample: Any,
    settings: GraphSettings | None = None,
    *,
    network: str | None = None,
    call: Run | None = None,
    **options: Any,
) -> ConversionReport:
    """Say what would convert and what stands in the way, without converting.

    On the meta device nothing is computed: whether the graph reproduces the ANN, and whether the weights are
    finite, is not checked there.

    Args:
        ann: the network; it may be on the meta device, without weights.
        sample: a batch of inputs `[N, ...]` on the ANN's device; with `network` a batch of the whole model.
        settings: what the graph becomes, such as a pipeline says it.
        network: qualified name of the part of `ann` that the report is about; the whole by default.
        call: how the model is run on a batch, as in `calibrate`.
        options: its fields by name, `max_pooling`, `convert_avg_pool` and `analog`.

    Raises:
        SettingsError: there is no such part, or more than one is named.
        CalibrationError: the part isn't called, or with something else than one tensor.

    Example:
        >>> import torch
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> report = conversion_report(ann, torch.rand(8, 2))
        >>> report.convertible, report.neurons
        (True, {'_1': 3})
        >>> conversion_report(nn.Sigmoid(), torch.rand(8, 2)).convertible
        False
    """
    if paths := paths_of(network, call):
        if len(paths) > 1:
            raise SettingsError(
                f"A report is about one part: conversion_report(..., network={paths[0]!r}), then the others"
            )
        ann, sample = first_received(ann, sample, paths[0], call)
    return _report(ann, sample, replace(settings or GraphSettings(), **options))


def _report(ann: nn.Module, sample: Tensor, settings: GraphSettings) -> ConversionReport:
    try:
        on_meta = isinstance(sample, Tensor) and sample.is_meta
        capture = lower if on_meta else normalise
        network = prepare(capture(ann, sample, analog=settings.analog), sample, settings)
        return ConversionReport(
            stage_table(network),
            caps=site_caps(network),
            shapes=network.shapes,
            windows=len(network.schedule.regions),
            share=spiking_share(network, sample[:1]),
        )
    except ConversionError as error:
        obstacles = [o for o in error.obstacles if isinstance(o, Obstacle)]
        return ConversionReport(obstacles=obstacles, problem=str(error))
