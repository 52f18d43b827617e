"""An ANN and its calibration images, from which any number of SNNs are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from snn_lightning.calibration.api import prepared, run_calibration, samples_of, spiking
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.eta import StageCosts
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.resume import PartialCheckpoint, fingerprint
from snn_lightning.graph import StageNetwork
from snn_lightning.graph.parts import device_of
from snn_lightning.spiking.latency import latency_steps
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.thresholds import Max


class StartingPoint:
    """An ANN and its calibration images; the ANN is prepared once for each way of converting it.

    Args:
        ann: the trained network; left as it is.
        batches: all calibration images, `[N, ...]` each.
        device: where SNNs are calibrated; the ANN's by default.
    """

    def __init__(
        self, ann: nn.Module, batches: list[Tensor], device: torch.device | str | None = None
    ) -> None:
        self.ann, self.batches = ann, batches
        self.device = torch.device(device or device_of(ann) or batches[0].device)
        self.count = sum(map(len, batches))
        self._samples = samples_of(batches, self.device)
        self._networks: dict[tuple[object, ...], StageNetwork] = {}

    def network(self, pipeline: Pipeline) -> StageNetwork:
        """Return the network that becomes spiking."""
        key = (pipeline.max_pooling, pipeline.convert_avg_pool, pipeline.analog, pipeline.precision)
        if key not in self._networks:
            with torch.inference_mode(False):
                self._networks[key] = prepared(self.ann, self._samples, pipeline)
        return self._networks[key]

    def fingerprint(self, pipeline: Pipeline) -> str:
        """Return what tells this calibration from others."""
        return fingerprint(self.network(pipeline), pipeline, self.batches)

    def cost(self, pipeline: Pipeline) -> float:
        """Return what the cost model says of a calibration, in its own unit."""
        network = self.network(pipeline)
        work = pipeline.decided_for(network).work(self.count)
        return sum(StageCosts.modelled(network, self._samples[0], work).stages)

    def latency_steps(self, pipeline: Pipeline) -> int:
        """Return how many time steps an inference of its SNN takes."""
        waits = pipeline.neuron.build().windowed
        return latency_steps(self.network(pipeline), pipeline.timesteps, waits)

    def images(self, count: int) -> Tensor:
        """Return the first images on the device, `[n <= count, ...]`, as far as they come in one size."""
        images: list[Tensor] = []
        for batch in self.batches:
            if batch.shape[1:] != self.batches[0].shape[1:] or sum(map(len, images)) >= count:
                break
            images.append(batch)
        return torch.cat(images)[:count].to(self.device)

    def convert(self, pipeline: Pipeline) -> SpikingModel:
        """Return the SNN before its calibration, with the largest activations as thresholds."""
        conversion = replace(pipeline.conversion, threshold=Max(), rounding="potential")
        with torch.inference_mode(False):
            return spiking(self.network(pipeline), self.batches[0].to(self.device), conversion)

    def calibrate(
        self, pipeline: Pipeline, observer: Observer, partial: str | Path | None = None
    ) -> tuple[SpikingModel, PartialCheckpoint | None]:
        """Return the calibrated SNN, and the file with its stages; see `run_calibration`."""
        network, batches = self.network(pipeline), list(self.batches)
        return run_calibration(network, batches, pipeline, Communicator(), observer, partial, self.device)
