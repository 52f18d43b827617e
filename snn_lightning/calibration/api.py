"""Convert and calibrate without a Trainer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from snn_lightning.calibration.augmentation import Augmentation, Copies
from snn_lightning.calibration.images import collect_images, held_out_last, shard
from snn_lightning.calibration.parts import convert_parts
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.steps.threshold import set_threshold
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.eta import StageCosts
from snn_lightning.calibration.walk.loop import CalibrationLoop
from snn_lightning.calibration.walk.observer import Observer, RichObserver
from snn_lightning.calibration.walk.resume import PartialCheckpoint, fingerprint
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.graph import INPUT, StageNetwork, normalise, prepare
from snn_lightning.graph.parts import Run, paths_of
from snn_lightning.graph.precision import own_precision
from snn_lightning.graph.threads import alone
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.thresholds import Max, Threshold


@overload
def convert(
    ann: nn.Module, sample: Tensor, timesteps: int, *, network: None = None, **options: Any
) -> SpikingModel: ...


@overload
def convert(
    ann: nn.Module,
    sample: Any,
    timesteps: int,
    *,
    network: str | Sequence[str],
    call: Run | None = None,
    **options: Any,
) -> nn.Module: ...


def convert(
    ann: nn.Module,
    sample: Any,
    timesteps: int,
    *,
    network: str | Sequence[str] | None = None,
    call: Run | None = None,
    **options: Any,
) -> nn.Module:
    """Convert an ANN, or parts of it, without calibrating it.

    Args:
        ann: the trained network; left as it is.
        sample: a batch of inputs `[N, ...]`, from which the thresholds are taken; with `network` a batch of
            the whole model.
        timesteps: T.
        network: what becomes spiking, as in `calibrate`.
        call: how the model is run on a batch, as in `calibrate`.
        options: fields of `Conversion`: `neuron`, `rounding`, `max_pooling`, `convert_avg_pool`, `analog`,
            `precision`, and `threshold`, a channel-wise `Max()` by default. None leaves one at its default.

    Returns:
        A SpikingModel on the ANN's output scale; with `network` a copy of the ANN with SpikingModels in it.

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
    paths = paths_of(network, call)
    if not paths:
        return spiking(prepared(ann, [sample], conversion), sample, conversion)

    def converted(part: nn.Module, batches: list[Tensor], device: torch.device) -> SpikingModel:
        sample, *others = (batch.to(device) for batch in batches)
        ready = prepared(part, [sample, *samples_of(batches, device)[1:]], conversion)
        return spiking(ready, sample, conversion, others)

    return convert_parts(ann, [sample], paths, call, converted)


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


def spiking(
    network: StageNetwork, sample: Tensor, conversion: Conversion, others: Iterable[Tensor] = ()
) -> SpikingModel:
    """Return a spiking copy of a prepared network, with thresholds from its activations.

    Args:
        network: it.
        sample: inputs `[N, ...]` on its device.
        conversion: how it is converted.
        others: more inputs, whose activations count too.
    """
    model, threshold = _copy(network, conversion).to(sample.device), cast(Threshold, conversion.threshold)
    rounding, timesteps = conversion.rounding, conversion.timesteps
    with torch.no_grad():
        values = [network.run_operators(network.nodes, {INPUT: x}) for x in (sample, *others)]
        for name, unit in model.neurons.items():
            site, chunks = network.nodes[name], [part[name] for part in values]
            set_threshold(unit, threshold, rounding, timesteps, site, chunks.__iter__, Communicator())
    return model


@overload
def calibrate(
    ann: nn.Module,
    loader: Iterable[Any],
    pipeline: Pipeline,
    *,
    network: None = None,
    partial: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> SpikingModel: ...


@overload
def calibrate(
    ann: nn.Module,
    loader: Iterable[Any],
    pipeline: Pipeline,
    *,
    network: str | Sequence[str],
    call: Run | None = None,
    partial: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> nn.Module: ...


def calibrate(
    ann: nn.Module,
    loader: Iterable[Any],
    pipeline: Pipeline,
    *,
    network: str | Sequence[str] | None = None,
    call: Run | None = None,
    partial: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> nn.Module:
    """Convert an ANN, or parts of it, and calibrate the spiking network, stage by stage.

    A part is calibrated on what it receives, in all its calls, while the whole ANN runs on the batches in
    eval mode. Several parts are converted one after the other, in the order in which data meets them. A later
    one receives what the spiking ones before it make of the batches, and its targets are what its own ANN
    gives for that: it corrects its own error, and not theirs.

    Args:
        ann: the trained network; left as it is.
        loader: batches of inputs `[N, ...]` or (inputs, anything); unlabelled training images without
            augmentation, which is the pipeline's to do (`augment`). With `network` batches of the whole ANN;
            lists of images `[C, H, W]` in place of inputs too, such as detectors take.
        pipeline: `Baseline`, `LCP` or `ACP`.
        network: qualified name of the part that becomes spiking, or a tuple of them; the ANN whole by
            default.
        call: runs the ANN on a batch, where batches are of another form or it takes more than one argument:
            `lambda model, batch: model(batch["image"], batch["size"])`. The batch is on the ANN's device.
        partial: a folder; a killed call goes on there at the first unfinished stage when it is made again.
        device: where to calibrate; the ANN's device by default.
        progress: show a bar and one line a stage.

    Returns:
        The calibrated SpikingModel on that device, in eval mode; `model.records` tells what happened to each
        stage. With `network` a copy of the ANN with calibrated SpikingModels in it, on that device and in
        eval mode.

    Raises:
        ConversionError: lists everything that can't be converted.
        CalibrationError: the data is empty, of a wrong form or not finite, or a part isn't called or takes
            something else than one tensor.
        SettingsError: there is no such part, or one is inside another.

    Example:
        >>> from snn_lightning import LCP
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> loader = [torch.rand(8, 2), torch.rand(8, 2)]
        >>> snn = calibrate(ann, loader, LCP(timesteps=4), progress=False)
        >>> snn.status
        'calibrated'
    """
    _check_pipeline(pipeline)
    paths, unfinished = paths_of(network, call), list[PartialCheckpoint]()

    def calibrated(
        ann: nn.Module, batches: list[Tensor], device: torch.device | str | None = device
    ) -> SpikingModel:
        observer = RichObserver() if progress else Observer()
        model, left = run_calibration(ann, batches, pipeline, Communicator(), observer, partial, device)
        unfinished.extend([] if left is None else [left])
        return model

    model: nn.Module
    if paths:
        model = convert_parts(ann, loader, paths, call, calibrated, pipeline.seed, device)
    else:
        model = calibrated(ann, collect_images(loader, pipeline.seed))
    for left in unfinished:
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
    given = sum(len(batch) for batch in batches)
    pipeline = pipeline.decided(batches, given)
    pipeline.check_images(given)
    device = torch.device(device) if device is not None else next(ann.parameters(), batches[0]).device
    samples = samples_of(batches, device)
    with torch.inference_mode(False):
        network = ann if isinstance(ann, StageNetwork) else prepared(ann, samples, pipeline)
        pipeline = pipeline.decided_for(network)
        model = _copy(network, pipeline.conversion).to(device)
        keep = None
        if partial is not None:
            key = fingerprint(network, pipeline, batches)
            keep = PartialCheckpoint(Path(partial) / f"{key}.partial.ckpt", key)
        held_out = pipeline.count_held_out(given)
        images = held_out_last(batches, held_out)
        copies = None
        if isinstance(pipeline.augment, Augmentation):
            shapes = [image.shape for image in images]
            copies = Copies(pipeline.augment, shapes, images.__getitem__, held_out)
            images = copies.augmented(pipeline.seed)
        parts, indices = shard(images, communicator.rank, communicator.world_size, model.images_at_once)
        chunks = (_dense(part.to(device)) for part in parts)
        total = pipeline.augmented(given)
        fitted = given - held_out if copies is None else copies.fitted
        loop = CalibrationLoop(
            network, model, pipeline, chunks, indices, total, fitted, communicator, observer, keep, copies
        )
        del images, copies
        batches.clear()
        work = pipeline.work(given, communicator.world_size)
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
