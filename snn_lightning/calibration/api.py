"""Convert and calibrate without a Trainer."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.calibration.images import collect_images, shard
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.steps.threshold import set_threshold
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.eta import StageCosts
from snn_lightning.calibration.walk.loop import CalibrationLoop
from snn_lightning.calibration.walk.observer import Observer, RichObserver
from snn_lightning.calibration.walk.resume import PartialCheckpoint, fingerprint
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.graph import INPUT, StageNetwork, normalise, prepare
from snn_lightning.graph.precision import check_precision, own_precision
from snn_lightning.graph.threads import alone
from snn_lightning.spiking.model import SpikingModel, check_timesteps
from snn_lightning.spiking.neurons.config import IF, Neuron
from snn_lightning.thresholds import Max, Threshold


def convert(
    ann: nn.Module,
    sample: Tensor,
    timesteps: int,
    *,
    threshold: Threshold | None = None,
    neuron: Neuron | None = None,
    rounding: str = "potential",
    max_pooling: str = "gated",
    convert_avg_pool: bool = False,
    precision: str = "float32",
) -> SpikingModel:
    """Convert an ANN without calibrating it.

    Args:
        ann: the trained network; left as it is.
        sample: a batch of inputs `[N, ...]`, from which the thresholds are taken.
        timesteps: T.
        threshold: channel-wise `Max()` by default.
        neuron: the kind of neurons, `IF()` by default.
        rounding: "potential", "bias" or "floor".
        max_pooling: "gated", "average" or "keep".
        convert_avg_pool: give average pooling neurons of its own.
        precision: of the synapses, "float32", "tf32" or "bf16".

    Returns:
        A SpikingModel on the ANN's output scale.

    Raises:
        ConversionError: lists everything that can't be converted.
    """
    check_timesteps(timesteps)
    check_precision(precision)
    threshold = threshold or Max()
    with alone():
        network = prepare(normalise(ann, sample), sample, max_pooling, convert_avg_pool)
    network.precision = precision
    model = _spiking_copy(network, timesteps, neuron or IF()).to(sample.device)
    with torch.no_grad():
        values = network.run_operators(network.nodes, {INPUT: sample})
        for name, unit in model.neurons.items():
            site, chunks = network.nodes[name], [values[name]]
            set_threshold(unit, threshold, rounding, timesteps, site, chunks.__iter__, Communicator())
    return model


def calibrate(
    ann: nn.Module,
    loader: Iterable[Any],
    pipeline: Pipeline,
    *,
    partial: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> SpikingModel:
    """Convert an ANN and calibrate the spiking network, stage by stage.

    Args:
        ann: the trained network; left as it is.
        loader: batches of inputs `[N, ...]` or (inputs, anything); unlabelled training images without
            augmentation.
        pipeline: `Baseline`, `LCP` or `ACP`.
        partial: a folder; a killed call goes on there at the first unfinished stage when it is made again.
        device: where to calibrate; the ANN's device by default.
        progress: show a bar and one line a stage.

    Returns:
        The calibrated SpikingModel on that device, in eval mode; `model.records` tells what happened to each
        stage.

    Raises:
        ConversionError: lists everything that can't be converted.
        CalibrationError: the data is empty, of a wrong form or not finite.
    """
    _check_pipeline(pipeline)
    observer = RichObserver() if progress else Observer()
    batches = collect_images(loader, pipeline.seed)
    model, left = run_calibration(ann, batches, pipeline, Communicator(), observer, partial, device)
    if left is not None:
        left.remove()
    return model


def run_calibration(
    ann: nn.Module,
    batches: list[Tensor],
    pipeline: Pipeline,
    communicator: Communicator,
    observer: Observer,
    partial: str | Path | None = None,
    device: torch.device | str | None = None,
) -> tuple[SpikingModel, PartialCheckpoint | None]:
    """Convert and calibrate on one of several processes; see `calibrate`.

    Every process passes the same ANN and the same batches, and takes its own share of the images. The list
    `batches` is emptied, so that the images are in the cache alone, and no longer than something reads them.

    Returns:
        The calibrated model, and the file with its stages, which the caller removes when the model is safe.
    """
    _check_pipeline(pipeline)
    if not batches:
        raise CalibrationError(
            "There are no calibration images: a calibration empties the list it is given; pass a new one."
        )
    total = sum(len(batch) for batch in batches)
    pipeline.check_images(total)
    device = torch.device(device) if device is not None else next(ann.parameters(), batches[0]).device
    sample = batches[0][:8].to(device, copy=True)
    with torch.inference_mode(False):
        with alone():
            network = normalise(ann, sample, _other_sizes(batches, device))
            network = prepare(network, sample, pipeline.max_pooling, pipeline.convert_avg_pool)
        model = _spiking_copy(network, pipeline.timesteps, pipeline.neuron).to(device)
        keep = None
        if partial is not None:
            key = fingerprint(network, pipeline, batches)
            keep = PartialCheckpoint(Path(partial) / f"{key}.partial.ckpt", key)
        parts, indices = shard(batches, communicator.rank, communicator.world_size, model.images_at_once)
        chunks = (_dense(part.to(device)) for part in parts)
        loop = CalibrationLoop(network, model, pipeline, chunks, indices, total, communicator, observer, keep)
        batches.clear()
        work = pipeline.work(total, communicator.world_size)
        observer.begin(StageCosts.modelled(network, sample, work))
        # Gradients of the synapses too.
        with observer, torch.enable_grad(), own_precision(pipeline.precision, device):
            model.records = loop.run()
    return model, keep


def _check_pipeline(pipeline: object) -> None:
    if not isinstance(pipeline, Pipeline):
        raise SettingsError(f"pipeline must be Baseline, LCP, ACP or another Pipeline, got {pipeline!r}")


def _spiking_copy(network: StageNetwork, timesteps: int, neuron: Neuron) -> SpikingModel:
    return SpikingModel(copy.deepcopy(network), timesteps, neuron).eval()


def _other_sizes(batches: list[Tensor], device: torch.device) -> list[Tensor]:
    """Return one image of each size but the first batch's, `[1, ...]` each."""
    sizes = {batch.shape[1:]: batch[:1] for batch in reversed(batches)}
    return [x.to(device) for size, x in sizes.items() if size != batches[0].shape[1:]]


def _dense(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
