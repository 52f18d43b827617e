"""Calibrate to a budget without a Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from torch import Tensor, nn

from snn_lightning.analysis.energy import EnergyModel, prices
from snn_lightning.calibration.budget.kept import Kept
from snn_lightning.calibration.budget.scores import Metric, ValidationAccuracy, scored
from snn_lightning.calibration.budget.search import BudgetResult, search
from snn_lightning.calibration.budget.settings import Budget, Candidate
from snn_lightning.calibration.budget.start import StartingPoint
from snn_lightning.calibration.images import batches_of, collect_images
from snn_lightning.calibration.pipelines import ACP, Pipeline
from snn_lightning.calibration.recording import Part, Recorder
from snn_lightning.calibration.walk.observer import Observer, RichObserver
from snn_lightning.errors import SettingsError
from snn_lightning.graph.capture.trace import copied, unwrap
from snn_lightning.graph.parts import Run, find_part, paths_of, run_model
from snn_lightning.spiking.model import SpikingModel

TIMESTEPS = (1, 2, 4, 8, 16, 32, 64)
"""Of `ACP`, where no candidates are given."""


def calibrate_to(
    ann: nn.Module,
    loader: Iterable[Any],
    max_drop: float,
    *,
    validation: Iterable[Any] | None = None,
    metric: Metric | None = None,
    mode: str = "max",
    candidates: Iterable[Pipeline] | None = None,
    objective: str = "timesteps",
    energy: EnergyModel | None = None,
    network: str | None = None,
    call: Run | None = None,
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> BudgetResult:
    """Find the SNN with the fewest time steps that loses no more than `max_drop` points against the ANN.

    Candidates are calibrated and scored from small T up, those of equal T from the cheapest up, until one is
    within the budget. Where none is, the result is the one that loses least, and `met` is False. For the
    least energy, each pipeline and kind of neurons ends with its first T within the budget.

    Args:
        ann: the trained network; left as it is.
        loader: calibration batches; see `calibrate`.
        max_drop: percentage points.
        validation: batches of other images than those of `loader`, never test images: of (images, labels) for
            accuracy, or of images alone for the fraction on which ANN and SNN agree.
        metric: scores a network, in place of `validation`: a fraction, of which more is better.
        mode: "min" where less is better, as of an error; a point is then 0.01 of whatever it measures.
        candidates: pipelines with their T and neurons; `ACP` with T = 1, 2, 4, ... 64 by default.
        objective: "timesteps", "energy" for the least, "seconds" for the cheapest calibration (cost model).
        energy: prices by which the energy is measured; `EnergyModel()` by default.
        network: qualified name of the part that becomes spiking; the ANN whole by default.
        call: runs the ANN on a batch, as in `calibrate`.
        folder: where finished trials and the best SNN are kept; the same call goes on after them. Another
            `metric` needs another folder, as functions can't be told apart.
        device: where to calibrate; the ANN's device by default.
        progress: show a line a stage and a trial.

    Returns:
        The best SNN (with `network` a copy of the ANN with it), all trials, and whether the budget is met.

    Raises:
        SettingsError: a setting, the validation images or the metric make no sense.
        CalibrationError, ConversionError: see `calibrate`.

    Example:
        >>> from snn_lightning import LCP
        >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> held_out, loader = [torch.rand(50, 2)], [torch.rand(64, 2)]
        >>> pipelines = [LCP(timesteps=t) for t in (8, 512)]
        >>> found = calibrate_to(ann, loader, 20, validation=held_out, candidates=pipelines, progress=False)
        >>> found.met, found.snn.timesteps in (8, 512)
        (True, True)
    """
    budget = Budget(max_drop, objective, mode, prices(energy))
    chosen = _candidates(candidates)
    _check_scores(loader, validation, metric, mode)
    paths = paths_of(network, call)
    if len(paths) > 1:
        raise SettingsError(f"network must be the name of one part in a search, got {network!r}")
    reference = copied(unwrap(ann)).eval().to(device)
    start, placed = _start(ann, loader, paths, call, device)
    if metric is None:
        assert validation is not None
        metric = ValidationAccuracy(reference, validation, call)
    ann_score = scored(metric, reference, mode)
    console = Console(quiet=not progress)
    result = search(
        start,
        chosen,
        budget,
        ann_score,
        lambda snn: scored(metric, placed(snn), mode, ann_score),
        scored_by=f"{getattr(metric, 'fingerprint', None)} {mode} {ann_score}",
        kept=None if folder is None else Kept(folder),
        observer=RichObserver if progress else Observer,
        say=lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True),
    )
    console.print(result.table)
    console.print(result.summary, highlight=False, markup=False, soft_wrap=True)
    snn = placed(cast(SpikingModel, result.snn))
    return BudgetResult(snn, result.pipeline, result.trials, result.best, ann_score, budget)


def _candidates(pipelines: Iterable[Pipeline] | None) -> list[Candidate]:
    """Return what is tried, pipelines of the same class told apart by numbers where more than T differs."""
    given = [ACP(timesteps=t) for t in TIMESTEPS] if pipelines is None else pipelines
    if isinstance(given, Pipeline) or not isinstance(given, Iterable):
        raise SettingsError(f"candidates must be a list such as [ACP(timesteps=8)], got {given!r}")
    found: list[Candidate] = []
    families: dict[tuple[str, str], list[Any]] = {}
    for pipeline in given:
        if not isinstance(pipeline, Pipeline):
            raise SettingsError(f"candidates must be pipelines such as ACP(timesteps=8), got {pipeline!r}")
        name, neuron = type(pipeline).__name__, type(pipeline.neuron).__name__
        family = Candidate(pipeline, name, neuron).family
        alike = families.setdefault((name, neuron), [])
        if family not in alike:
            alike.append(family)
        number = alike.index(family) + 1
        found.append(Candidate(pipeline, name if number == 1 else f"{name} {number}", neuron))
    return found


def _check_scores(loader: object, validation: object, metric: object, mode: str) -> None:
    if metric is not None and not callable(metric):
        raise SettingsError(f"metric must be a function of a network, got {metric!r}")
    if metric is not None and validation is not None:
        raise SettingsError("metric and validation both say how a network is scored: leave one of them out")
    if metric is None and validation is None:
        raise SettingsError(
            "There are no validation images: give validation=..., a loader of images that neither train nor "
            "calibrate nor test, or metric=..., a function of the network"
        )
    if metric is None and mode != "max":
        raise SettingsError(
            f"mode={mode!r} goes with a metric=... of your own: accuracy is better the higher"
        )
    if validation is loader:
        raise SettingsError("validation is the calibration loader: give images that calibrate nothing")


def _start(
    ann: nn.Module,
    loader: Iterable[Any],
    paths: Sequence[str],
    call: Run | None,
    device: torch.device | str | None,
) -> tuple[StartingPoint, Callable[[SpikingModel], nn.Module]]:
    """Return the ANN or its part with its images, and what puts an SNN in its place."""
    if not paths:
        return StartingPoint(ann, collect_images(loader), device), lambda snn: snn
    running, result = (copied(unwrap(ann)).eval().to(device) for _ in range(2))
    part, place = (Part(model, paths[0], find_part(model, paths[0])) for model in (running, result))
    if isinstance(part.ann, SpikingModel):
        raise SettingsError(f"'{paths[0]}' of {type(ann).__name__} holds a spiking network already")
    recorder = Recorder(part, lambda batch, index: run_model(running, batch, call))
    with torch.inference_mode(False):
        batches: list[Tensor] = recorder.record(batches_of(loader, 0))

    def placed(snn: SpikingModel) -> nn.Module:
        place.replace(snn)
        return result

    return StartingPoint(part.ann, batches, recorder.device), placed
