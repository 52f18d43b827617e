"""The greedy walk: one sweep over the stages, each observed, calibrated, fired and freed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from snn_lightning.calibration.pipelines import FinalStep, Pipeline
from snn_lightning.calibration.steps.distillation import NetworkContext
from snn_lightning.calibration.steps.registry import calibrate_threshold, run_step
from snn_lightning.calibration.walk.cache import Cache, Entry
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport, Stored
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.records import StageRecord
from snn_lightning.calibration.walk.resume import PartialCheckpoint
from snn_lightning.errors import CalibrationError
from snn_lightning.graph.ir import INPUT, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron


class CalibrationLoop:
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
        communicator: connects the processes.
        observer: is told about progress.
        partial: where finished stages are kept; None to keep nothing.
    """

    def __init__(
        self,
        ann: StageNetwork,
        snn: SpikingModel,
        pipeline: Pipeline,
        chunks: Iterable[Tensor],
        indices: list[Tensor],
        total: int,
        communicator: Communicator,
        observer: Observer,
        partial: PartialCheckpoint | None = None,
    ) -> None:
        self.ann, self.snn, self.pipeline = ann, snn, pipeline
        ann.precision = snn.precision = pipeline.precision
        self.indices, self.total = indices, total
        self.communicator, self.observer, self.partial = communicator, observer, partial
        self.cache = Cache(pipeline.cache_budget_gb, pipeline.cache_place)
        images = [self.cache.put(chunk) for chunk in chunks]
        self.ann_values: dict[str, list[Entry]] = {INPUT: images}
        self.snn_values: dict[str, Stored] = {INPUT: [[image] for image in images]}
        self.records: list[dict[str, Any]] = []

    def run(self) -> list[dict[str, Any]]:
        """Walk all stages; returns a record of each. The model's status is "calibrated" afterwards."""
        stages = self.snn.network.stages
        try:
            finished = self._resume()
            for index, stage in enumerate(stages):
                self.observer.stage_started(index, self.total_steps, stage.name, index < finished)
                if finished >= len(stages):
                    # Nothing but final steps is left: no stage has to fire again.
                    continue
                started = time.perf_counter()
                context = self._observe(index, stage)
                record = StageRecord(index, stage.name, stage.kind, self._path(stage))
                if index >= finished:
                    self._calibrate(context, record)
                self._fire(context, record)
                self._free(index)
                record.seconds = time.perf_counter() - started
                if index >= finished:
                    self._finish(record, index + 1)
            self.cache.release()
            for index, step in enumerate(self.pipeline.final_steps, len(stages)):
                if index >= finished:
                    self._final(index, step)
                self._free(index)
            self.snn.status = "calibrated"
            self.communicator.barrier()
        finally:
            self.cache.close()
        return self.records

    @property
    def total_steps(self) -> int:
        """Stages, and steps on the whole network after them."""
        return len(self.snn.network.stages) + len(self.pipeline.final_steps)

    def _final(self, index: int, step: FinalStep) -> None:
        """Run a step on the whole network."""
        name = type(step).__name__.lower()
        self.observer.stage_started(index, self.total_steps, name, False)
        started = time.perf_counter()
        record = StageRecord(index, name, "network", path="")
        context = NetworkContext(
            ann=self.ann,
            snn=self.snn,
            images=self.ann_values[INPUT],
            indices=self.indices,
            total=self.total,
            communicator=self.communicator,
            seed=self._seed(index),
            iteration=self._iteration(index),
        )
        report = run_step(step, context)
        self._note(record, name, report)
        record.error, record.seconds = report.after, time.perf_counter() - started
        self._finish(record, index + 1)

    def _seed(self, index: int) -> int:
        return self.pipeline.seed * 100_003 + index

    def _iteration(self, index: int) -> Callable[[int, int, float], None]:
        def iteration(done: int, iterations: int, loss: float) -> None:
            self.observer.iteration(index, done, iterations, loss)

        return iteration

    def _observe(self, index: int, stage: Stage) -> StageContext:
        """Run the stage's ANN side on the cached activations."""
        activations = []
        exports: dict[str, list[Entry]] = {key: [] for key in stage.exports}
        for i in range(len(self.indices)):
            values = {key: self.ann_values[key][i].get() for key in stage.inputs}
            with torch.no_grad():
                results = self.ann.run_stage(stage, values)
            x = results[stage.current if stage.kind == "readout" else stage.name]
            # The sum first: it costs a fraction of looking at each number.
            if not torch.isfinite(x.sum()) and not torch.isfinite(x).all():
                raise CalibrationError(
                    f"The ANN's activation at '{stage.name}' has NaN or infinite values on the calibration "
                    "set: check its weights and the images."
                )
            activations.append(self.cache.put(x))
            for key, stored in exports.items():
                stored.append(self.cache.put(results[key]))
        self.ann_values.update(exports)
        self.ann_values[stage.name] = activations

        return StageContext(
            stage=stage,
            snn=self.snn,
            ann=self.ann,
            ann_inputs={key: self.ann_values[key] for key in stage.inputs},
            activations=activations,
            inputs={key: self.snn_values[key] for key in stage.inputs},
            indices=self.indices,
            total=self.total,
            cache=self.cache,
            communicator=self.communicator,
            seed=self._seed(index),
            iteration=self._iteration(index),
        )

    def _calibrate(self, context: StageContext, record: StageRecord) -> None:
        """Run the threshold and the pipeline's steps."""
        if isinstance(context.unit, IFNeuron):
            with torch.no_grad():
                report = calibrate_threshold(self.pipeline.threshold, self.pipeline.rounding, context)
            self._note(record, "threshold", report)
        elif context.stage.kind == "gate" or not self.pipeline.calibrate_readout:
            return
        for step in self.pipeline.steps:
            report = run_step(step, context)
            self._note(record, type(step).__name__.lower(), report)
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
            error.add(context.activations[i].get(), total.div_(self.snn.timesteps))
            outputs.append(parts)
        self.snn_values.update(context.exports)
        self.snn_values[stage.name] = outputs
        context.exports = {}
        context.forget_currents()
        record.error = error.value(self.communicator)
        if stage.kind == "neuron":
            spikes, places = self.communicator.sum(fired).tolist()
            record.firing_rate = spikes / (places * self.snn.timesteps)
        for numbers in record.steps.values():
            if numbers["after"] != numbers["after"]:
                numbers["after"] = record.error

    def _free(self, index: int) -> None:
        """Free every value that no later stage reads, and no final step, which reads the images."""
        needed = {key for stage in self.snn.network.stages[index + 1 :] for key in stage.inputs}
        if self.pipeline.final_steps and index < self.total_steps - 1:
            needed.add(INPUT)
        for key in [key for key in self.ann_values if key not in needed]:
            for entry in self.ann_values.pop(key):
                entry.free()
        for key in [key for key in self.snn_values if key not in needed]:
            for parts in self.snn_values.pop(key):
                for part in parts:
                    part.free()

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
        return int(left["finished"])

    def _path(self, stage: Stage) -> str:
        node = self.snn.network.nodes.get(stage.name)
        return node.path if node is not None else ""
