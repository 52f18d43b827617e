"""Build a calibration loop by hand, look into its stages, and compute them the slow literal way."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.images import held_out_last, shard
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.context import StageContext, StepReport
from snn_lightning.calibration.walk.loop import CalibrationLoop
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.resume import PartialCheckpoint
from snn_lightning.graph import INPUT, StageNetwork, normalise, prepare
from snn_lightning.spiking.model import SpikingModel


@register_step
@dataclass(frozen=True)
class Probe(Step):
    """A step that shows each stage's context to a function."""

    see: Callable[[StageContext], Any] = lambda context: None

    def run(self, context: StageContext) -> StepReport:
        self.see(context)
        return StepReport(0.0, 0.0)


@dataclass(frozen=True)
class Custom(Pipeline):
    """Up to three steps in any order, fitted to all images."""

    held_out: float = 0.0

    first: Step = field(default_factory=Probe)
    second: Step = field(default_factory=Probe)
    third: Step = field(default_factory=Probe)


def make_loop(
    ann: nn.Module,
    images: Tensor,
    pipeline: Pipeline,
    observer: Observer | None = None,
    partial: PartialCheckpoint | None = None,
) -> CalibrationLoop:
    """Return a loop over `images` that is ready to run; its `ann` and `snn` can be looked into."""
    network = prepare(normalise(ann, images[:8]), images[:8], pipeline)
    model = SpikingModel(copy.deepcopy(network), pipeline.conversion).eval()
    held_out = pipeline.count_held_out(len(images))
    ordered = held_out_last([images], held_out)
    chunks, indices = shard(ordered, 0, 1, max(1, model.rows // pipeline.timesteps))
    observer = observer or Observer()
    fitted = len(images) - held_out
    return CalibrationLoop(
        network, model, pipeline, chunks, indices, len(images), fitted, Communicator(), observer, partial
    )


def run(ann: nn.Module, images: Tensor, pipeline: Pipeline) -> SpikingModel:
    """Calibrate on `images` in silence."""
    loop = make_loop(ann, images, pipeline)
    loop.snn.records = loop.run()
    return loop.snn


class Threads(Communicator):
    """Two "processes" that are threads of this one."""

    def __init__(self, rank: int, world_size: int, barrier: threading.Barrier, board: list[Any]) -> None:
        self.rank, self.world_size, self._barrier, self._board = rank, world_size, barrier, board

    def _all(self, value: Any) -> list[Any]:
        self._board[self.rank] = value
        self._barrier.wait()
        values = list(self._board)
        self._barrier.wait()
        return values

    def sum(self, tensor: Tensor) -> Tensor:
        return torch.stack(self._all(tensor.clone())).sum(0)

    sum_unchecked = sum

    def max(self, tensor: Tensor) -> Tensor:
        return torch.stack(self._all(tensor.clone())).amax(0)

    def broadcast(self, value: Any) -> Any:
        return self._all(value)[0]

    def barrier(self) -> None:
        self._barrier.wait()


def in_two_threads(ann: nn.Module, batches: list[Tensor], pipeline: Pipeline) -> list[SpikingModel]:
    """Calibrate in two "processes"; returns the model of each."""
    barrier, board, models = threading.Barrier(2, timeout=60), [None, None], list[Any]([None, None])

    def calibrate(rank: int) -> None:
        connected = Threads(rank, 2, barrier, board)
        models[rank], _ = run_calibration(ann, list(batches), pipeline, connected, Observer())

    threads = [threading.Thread(target=calibrate, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(model.status == "calibrated" for model in models)
    return models


def by_channel(values: Tensor, like: Tensor) -> Tensor:
    """Shape `[]`, `[C]` or `[C, ...]` for activations `[N, C, ...]`."""
    return values.view(1, -1, *[1] * (like.dim() - 2)) if values.dim() == 1 else values


def literal_simulation(model: SpikingModel, images: Tensor) -> dict[str, Tensor]:
    """Run the whole network one time step after the other; returns the mean over time of every value.

    Neurons without a threshold yet (a fresh model's) simply take part with threshold 1.
    """
    network, potentials, totals = model.network, {}, {}
    for _ in range(model.timesteps):
        values = {INPUT: images}
        for name, node in network.nodes.items():
            inputs = [values[key] for key in node.inputs]
            if name not in model.neurons:
                values[name] = network.run_operator(name, *inputs)
                continue
            neuron, current = model.neurons[name], inputs[0]
            v_th = by_channel(neuron.v_th, current)
            if name not in potentials:
                potentials[name] = torch.zeros_like(current) + by_channel(neuron.v_init, current)
            potentials[name] = potentials[name] + (current + by_channel(neuron.bias, current))
            values[name] = (potentials[name] >= v_th) * v_th
            potentials[name] = potentials[name] - values[name]
        for name, value in values.items():
            totals[name] = totals[name] + value if name in totals else value.clone()
    rates = {name: total / model.timesteps for name, total in totals.items()}
    for stage in network.stages:
        if stage.kind == "readout":
            rates[stage.name] = rates[stage.current] + by_channel(
                model.units[stage.name].bias, rates[stage.current]
            )
    return rates


def activations(network: StageNetwork, images: Tensor) -> dict[str, Tensor]:
    """Return every value of the ANN, readouts under their stages' names."""
    with torch.no_grad():
        values = network.run_operators(network.nodes, {INPUT: images})
    for stage in network.stages:
        if stage.kind == "readout":
            values[stage.name] = values[stage.current]
    return values


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """Return the largest difference of any parameter; the names and shapes must be the same."""
    assert one.keys() == two.keys()
    assert all(one[name].shape == two[name].shape for name in one)
    return max((one[name].double() - two[name].double()).abs().max().item() for name in one)


def same_bits(one: nn.Module, two: nn.Module) -> bool:
    """Tell whether two models have equal parameters, bit for bit."""
    return largest_difference(parameters(one), parameters(two)) == 0
