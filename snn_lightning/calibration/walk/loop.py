"""The greedy walk: one sweep over the stages, each observed, calibrated, fired and freed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snn_lightning.calibration.augmentation import Copies
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.steps.base import FinalStep, record_keys
from snn_lightning.calibration.steps.threshold import calibrate_threshold
from snn_lightning.calibration.walk.cache import Cache, Entry
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.context import (
    RelativeError,
    StageContext,
    StepReport,
    Stored,
    mean_over_time,
)
from snn_lightning.calibration.walk.fresh import FreshCopies
from snn_lightning.calibration.walk.network_context import NetworkContext
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.records import StageRecord
from snn_lightning.calibration.walk.resume import PartialCheckpoint
from snn_lightning.errors import CalibrationError
from snn_lightning.graph.interpreter import ANNInterpreter, Interpreter
from snn_lightning.graph.ir import INPUT, Instruction, Node, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron


@dataclass(frozen=True)
class Held:
    """A value on the calibration set, chunk by chunk.

    Args:
        ann: the ANN's.
        snn: the SNN's.
    """

    ann: list[Entry]
    snn: Stored

    def free(self) -> None:
        """Give its memory back."""
        for entry in self.ann:
            entry.free()
        for parts in self.snn:
            for part in parts:
                part.free()


class CalibrationLoop(Interpreter[Held]):
    """Calibrates a spiking model against its ANN in one sweep.

    For each live value it holds the ANN's activation and the SNN's spike train on the calibration set; no
    stage is run again for a later one.

    Args:
        ann: the normalised ANN.
        snn: the spiking model, with operators of its own; calibrated in place.
        pipeline: what to do in each stage.
        chunks: this process's images, each chunk `[n, ...]`; they go into the cache one by one.
        indices: the numbers of each chunk's images in the whole set.
        total: images of the whole set, over all processes.
        fitted: the first so many are fitted to, and the rest held out.
        communicator: connects the processes.
        observer: is told about progress.
        partial: where finished stages are kept; None to keep nothing.
        copies: what has made the augmented images among them; None without augmentation.

    Attributes:
        origins: the number of the original of each image of the whole set, which is its own without
            augmentation.
        given: how many originals there are.
    """

    def __init__(
        self,
        ann: StageNetwork,
        snn: SpikingModel,
        pipeline: Pipeline,
        chunks: Iterable[Tensor],
        indices: list[Tensor],
        total: int,
        fitted: int,
        communicator: Communicator,
        observer: Observer,
        partial: PartialCheckpoint | None = None,
        copies: Copies | None = None,
    ) -> None:
        self.ann, self.snn, self.pipeline = ann, snn, pipeline
        ann.precision = snn.precision = pipeline.precision
        self.indices, self.total, self.fitted = indices, total, fitted
        self.communicator, self.observer, self.partial = communicator, observer, partial
        self.device = next(snn.buffers()).device
        self.cache = Cache(pipeline.cache_budget_gb, pipeline.cache_place)
        images = [self.cache.put(chunk) for chunk in chunks]
        self.origins = range(total) if copies is None else copies.origins
        self.given = total if copies is None else len(copies.shapes)
        # Every process keeps all originals: it makes new copies of any of them, and blends any two.
        self.fresh = None
        if copies is not None and pipeline.final_steps:
            self.fresh = FreshCopies(copies, self.cache, images[0].device, communicator)
        super().__init__(snn.network, {INPUT: Held(images, [[image] for image in images])})
        self.records: list[dict[str, Any]] = []
        self.finished = 0

    def run(self) -> list[dict[str, Any]]:
        """Walk all stages; returns a record of each. The model's status is "calibrated" afterwards."""
        stages = self.network.stages
        try:
            self.finished = self._resume()
            self.interpret()
            self.cache.release()
            final = self.pipeline.final_steps
            for index, (key, step) in enumerate(zip(record_keys(final), final, strict=True), len(stages)):
                if index >= self.finished:
                    self._final(index, key, step)
            for held in self.values.values():
                held.free()
            if self.fresh is not None:
                self.fresh.free()
            self.snn.status = "calibrated"
            self.communicator.barrier()
        finally:
            self.cache.close()
        return self.records

    def stage(self, stage: Stage, instructions: Iterable[Instruction]) -> None:
        """Observe, calibrate and fire a stage and free what nothing reads any more; skip what is finished."""
        index = self.network.stages.index(stage)
        self.observer.stage_started(index, self.total_steps, stage.name, index < self.finished)
        if self.finished >= len(self.network.stages):
            # Nothing but final steps is left: no stage has to fire again.
            return
        started = time.perf_counter()
        self.record = StageRecord(index, stage.name, stage.kind, self._path(stage), images=self.given)
        super().stage(stage, instructions)
        self.record.seconds = time.perf_counter() - started
        if index >= self.finished:
            self._finish(self.record, index + 1)

    def run_node(self, node: Node, stage: Stage) -> None:
        """Leave operators to their stage's contexts, which run them chunk by chunk."""

    def fire(self, stage: Stage) -> None:
        """Observe, calibrate and fire a stage."""
        with self._timed(self.record, "observe"):
            context = self._observe(stage)
        if self.record.index >= self.finished:
            self._calibrate(context, self.record)
        with self._timed(self.record, "fire"):
            self._fire(context, self.record)

    def average(self, name: str) -> None:
        """Keep the mean over time of a value for later windows, which read it instead."""
        if name in self.values and name in self.network.temporal:
            held = self.values[name]
            means = [[self.cache.put(mean_over_time(parts, self.snn.simulated_steps))] for parts in held.snn]
            for parts in held.snn:
                for part in parts:
                    part.free()
            self.values[name] = Held(held.ann, means)

    def free(self, name: str) -> None:
        """Free a value; the images are kept for final steps, which read them."""
        if name in self.values and not (name == INPUT and self.pipeline.final_steps):
            self.values.pop(name).free()

    @property
    def total_steps(self) -> int:
        """Stages, and steps on the whole network after them."""
        return len(self.network.stages) + len(self.pipeline.final_steps)

    def _final(self, index: int, name: str, step: FinalStep) -> None:
        """Run a step on the whole network."""
        self.observer.stage_started(index, self.total_steps, name, False)
        started = time.perf_counter()
        record = StageRecord(index, name, "network", path="", images=self.given)
        context = NetworkContext(
            ann=self.ann,
            snn=self.snn,
            images=self.values[INPUT].ann,
            indices=self.indices,
            total=self.total,
            fitted=self.fitted,
            communicator=self.communicator,
            seed=self._seed(index),
            iteration=self._iteration(index),
            fresh=self.fresh,
        )
        with self._timed(record, name):
            report = step.run(context)
        self._note(record, name, report)
        record.error, record.seconds = report.after, time.perf_counter() - started
        self._finish(record, index + 1)

    @contextmanager
    def _timed(self, record: StageRecord, name: str) -> Iterator[None]:
        """Add the seconds of a block to those of a step."""
        started = self._now()
        yield
        spent = record.seconds_by_step
        spent[name] = spent.get(name, 0.0) + self._now() - started

    def _now(self) -> float:
        # An accelerator still works on what the step before has ordered.
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def _seed(self, index: int) -> int:
        return self.pipeline.seed * 100_003 + index

    def _iteration(self, index: int) -> Callable[[int, int, float], None]:
        def iteration(done: int, iterations: int, loss: float) -> None:
            self.observer.iteration(index, done, iterations, loss)

        return iteration

    def _observe(self, stage: Stage) -> StageContext:
        """Run the stage's ANN side on the cached activations."""
        inputs = {key: self.values[key] for key in stage.inputs}
        activations = []
        exports: dict[str, list[Entry]] = {key: [] for key in stage.exports}
        for i in range(len(self.indices)):
            ann = ANNInterpreter(self.ann, {key: held.ann[i].get() for key, held in inputs.items()})
            with torch.no_grad():
                ann.carry_out(self.ann.schedule.runs[stage.name])
                x = ann.unit(stage, ann.values[stage.current])
            # The sum first: it costs a fraction of looking at each number.
            if not torch.isfinite(x.sum()) and not torch.isfinite(x).all():
                raise CalibrationError(
                    f"The ANN's activation at '{stage.name}' has NaN or infinite values on the calibration "
                    "set: check its weights and the images."
                )
            activations.append(self.cache.put(x))
            for key, stored in exports.items():
                stored.append(self.cache.put(ann.values[key]))
        return StageContext(
            stage=stage,
            snn=self.snn,
            ann=self.ann,
            ann_inputs={key: held.ann for key, held in inputs.items()},
            activations=activations,
            ann_exports=exports,
            inputs={key: held.snn for key, held in inputs.items()},
            indices=self.indices,
            total=self.total,
            fitted=self.fitted,
            cache=self.cache,
            communicator=self.communicator,
            seed=self._seed(self.record.index),
            iteration=self._iteration(self.record.index),
            origins=self.origins,
        )

    def _calibrate(self, context: StageContext, record: StageRecord) -> None:
        """Run the threshold and the pipeline's steps."""
        if isinstance(context.unit, IFNeuron):
            with self._timed(record, "threshold"), torch.no_grad():
                report = calibrate_threshold(self.pipeline.threshold, self.pipeline.rounding, context)
            self._note(record, "threshold", report)
        elif context.stage.kind == "gate" or not self.pipeline.calibrate_readout:
            return
        steps = self.pipeline.steps
        for key, step in zip(record_keys(steps), steps, strict=True):
            with self._timed(record, key):
                report = step.run(context)
            self._note(record, key, report)
        if isinstance(context.unit, IFNeuron):
            record.threshold = (context.unit.v_th.min().item(), context.unit.v_th.max().item())

    def _note(self, record: StageRecord, name: str, report: StepReport) -> None:
        record.steps[name] = {"before": report.before, "after": report.after, **report.details}

    @torch.no_grad()
    def _fire(self, context: StageContext, record: StageRecord) -> None:
        """Simulate the stage with its final parameters; cache the spike trains that later stages read."""
        stage = context.stage
        error = RelativeError(context.device)
        fired = torch.zeros(2, dtype=torch.float64, device=context.device)
        outputs = []
        for i in range(len(self.indices)):
            total, parts = None, []
            for emission in context.emit(i, keep=stage.kind != "readout"):
                total = emission.total if total is None else total.add_(emission.total)
                if emission.counts is not None:
                    fired[0] += emission.counts.sum(dtype=torch.float64)
                if emission.output is not None:
                    parts.append(self.cache.put_output(emission.output))
            # Where they fill the budget, they would send the spikes of the next chunks to disk.
            context.forget_chunk(i)
            assert total is not None
            fired[1] += total.numel()
            error.add(context.activations[i].get(), total.div_(self.snn.simulated_steps))
            outputs.append(parts)
        for key, stored in context.exports.items():
            self.values[key] = Held(context.ann_exports[key], stored)
        self.values[stage.name] = Held(context.activations, outputs)
        context.exports = {}
        context.forget_currents()
        record.error = error.value(self.communicator)
        if stage.kind == "neuron":
            spikes, places = self.communicator.sum(fired).tolist()
            record.firing_rate = spikes / (places * self.snn.timesteps)
        for numbers in record.steps.values():
            if numbers["after"] != numbers["after"]:
                numbers["after"] = record.error

    def _finish(self, record: StageRecord, finished: int) -> None:
        self.records.append(record.to_dict())
        self.observer.stage_finished(record, self.total_steps)
        if self.partial is not None:
            self.snn.status = "partial"
            if self.communicator.rank == 0:
                self.partial.save(finished, self.snn.state_dict(), self.snn.spec(), self.records)
            self.communicator.barrier()

    def _resume(self) -> int:
        """Take over what a killed run had finished; returns the number of finished stages."""
        if self.partial is None:
            return 0
        left = self.communicator.broadcast(self.partial.load() if self.communicator.rank == 0 else None)
        if left is None:
            return 0
        self.snn.load_state_dict(left["state_dict"])
        self.records = left["records"]
        self.observer.stages_known([StageRecord(**record) for record in self.records])
        return int(left["finished"])

    def _path(self, stage: Stage) -> str:
        node = self.snn.network.nodes.get(stage.name)
        return node.path if node is not None else ""
