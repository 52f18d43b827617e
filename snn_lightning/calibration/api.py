"""Convert and calibrate without a Trainer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

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
from snn_lightning.graph.precision import own_precision
from snn_lightning.graph.threads import alone
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.thresholds import Max, Threshold


def convert(ann: nn.Module, sample: Tensor, timesteps: int, **options: Any) -> SpikingModel:
    """Convert an ANN without calibrating it.

    Args:
        ann: the trained network; left as it is.
        sample: a batch of inputs `[N, ...]`, from which the thresholds are taken.
        timesteps: T.
        options: fields of `Conversion`: `neuron`, `rounding`, `max_pooling`, `convert_avg_pool`, `analog`,
            `precision`, and `threshold`, a channel-wise `Max()` by default. None leaves one at its default.

    Returns:
        A SpikingModel on the ANN's output scale.

    Raises:
        ConversionError: lists everything that can't be converted.

    Example:
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> snn = convert(ann, torch.rand(8, 2), timesteps=4)
        >>> snn(torch.rand(5, 2)).shape
        torch.Size([5, 1])
    """
    given = {name: value for name, value in options.items() if value is not None}
    conversion = Conversion(timesteps, **{"threshold": Max(), **given})
    return spiking(prepared(ann, [sample], conversion), sample, conversion)


def prepared(ann: nn.Module, samples: Sequence[Tensor], conversion: Conversion) -> StageNetwork:
    """Return the network that becomes spiking: normalised, its pooling chosen, in its precision.

    Args:
        ann: the trained network; left as it is.
        samples: inputs `[N, ...]` on its device, the first of the size that it is converted for, the rest of
            other sizes; see `samples_of`.
        conversion: how it is converted.
    """
    first, *others = samples
    with alone():
        network = prepare(normalise(ann, first, others, conversion.analog), first, conversion)
    network.precision = conversion.precision
    return network


def samples_of(batches: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return 8 images of the first batch and one of each other size on `device`, `[n, ...]` each."""
    size = batches[0].shape[1:]
    others = {batch.shape[1:]: batch[:1] for batch in reversed(batches) if batch.shape[1:] != size}
    return [x.to(device, copy=True) for x in (batches[0][:8], *others.values())]


def spiking(network: StageNetwork, sample: Tensor, conversion: Conversion) -> SpikingModel:
    """Return a spiking copy of a prepared network, with thresholds from the activations of `sample`."""
    model, threshold = _copy(network, conversion).to(sample.device), cast(Threshold, conversion.threshold)
    rounding, timesteps = conversion.rounding, conversion.timesteps
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

    Example:
        >>> from snn_lightning import LCP
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> loader = [torch.rand(8, 2), torch.rand(8, 2)]
        >>> snn = calibrate(ann, loader, LCP(timesteps=4), progress=False)
        >>> snn.status
        'calibrated'
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
    An ANN that is `prepared` already is not converted again.

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
    samples = samples_of(batches, device)
    with torch.inference_mode(False):
        network = ann if isinstance(ann, StageNetwork) else prepared(ann, samples, pipeline)
        model = _copy(network, pipeline.conversion).to(device)
        keep = None
        if partial is not None:
            key = fingerprint(network, pipeline, batches)
            keep = PartialCheckpoint(Path(partial) / f"{key}.partial.ckpt", key)
        parts, indices = shard(batches, communicator.rank, communicator.world_size, model.images_at_once)
        chunks = (_dense(part.to(device)) for part in parts)
        loop = CalibrationLoop(network, model, pipeline, chunks, indices, total, communicator, observer, keep)
        batches.clear()
        work = pipeline.work(total, communicator.world_size)
        observer.begin(StageCosts.modelled(network, samples[0], work))
        # Gradients of the synapses too.
        with observer, torch.enable_grad(), own_precision(pipeline.precision, device):
            model.records = loop.run()
    return model, keep


def _check_pipeline(pipeline: object) -> None:
    if not isinstance(pipeline, Pipeline):
        raise SettingsError(f"pipeline must be Baseline, LCP, ACP or another Pipeline, got {pipeline!r}")


def _copy(network: StageNetwork, conversion: Conversion) -> SpikingModel:
    return SpikingModel(copy.deepcopy(network), conversion).eval()


def _dense(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
