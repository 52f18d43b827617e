"""Try one candidate after the other until an SNN is within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn

from snn_lightning import files
from snn_lightning.analysis.energy import EnergyModel, measure_energy
from snn_lightning.analysis.trials import Trial, trials_table
from snn_lightning.calibration.budget.kept import Kept
from snn_lightning.calibration.budget.settings import Budget, Candidate
from snn_lightning.calibration.budget.start import StartingPoint
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.errors import SettingsError
from snn_lightning.spiking.model import SpikingModel

MEASURED = 64
"""Calibration images on which energy and the simulation are measured."""


@dataclass(frozen=True)
class BudgetResult:
    """What a search has found. From `calibrate_to`.

    Args:
        snn: the best network, within the budget if `met`; in eval mode.
        pipeline: that has made it.
        trials: all that was tried, in that order.
        best: which one of them it is.
        ann_score: what the trials are compared with.
        budget: what was looked for.

    Example:
        >>> trial = Trial("lcp", "if", 4, 4, 0.9, 1.5, False, 0.2, 0.01, 3.0, 3.0)
        >>> from snn_lightning import LCP
        >>> BudgetResult(nn.ReLU(), LCP(4), (trial,), trial, 0.915, Budget(0.5)).met
        False
    """

    snn: nn.Module
    pipeline: Pipeline
    trials: tuple[Trial, ...]
    best: Trial
    ann_score: float
    budget: Budget

    @property
    def met(self) -> bool:
        """Whether an SNN within the budget was found."""
        return self.best.met

    @property
    def table(self) -> Table:
        """The trials, to be printed with rich."""
        return trials_table(self.trials)

    @property
    def summary(self) -> str:
        """What has come of it, in words."""
        bound = f"{self.budget.max_drop:g} points"
        if self.met:
            return f"Within {bound}: {self.best.title}, which loses {self.best.drop:.2f}"
        return (
            f"No candidate loses {bound} or less. The best is {self.best.title}, which loses "
            f"{self.best.drop:.2f}. Try more time steps, other pipelines or neurons (candidates), more "
            "calibration images, or allow more (max_drop)."
        )


def search(
    start: StartingPoint,
    candidates: Sequence[Candidate],
    budget: Budget,
    ann_score: float,
    score: Callable[[SpikingModel], float],
    *,
    scored_by: str = "",
    kept: Kept | None = None,
    observer: Callable[[], Observer] = Observer,
    say: Callable[[str], None] = lambda text: None,
) -> BudgetResult:
    """Calibrate and score candidates until none that is left can be better.

    Nothing is bisected: a score need not rise with T. Where each T is twice the one before, all smaller ones
    together cost no more than the one that is found.

    Args:
        start: the ANN and the calibration images.
        candidates: what may be tried.
        budget: what is looked for.
        ann_score: the ANN's score.
        score: that of an SNN.
        scored_by: what the scores depend on beside the SNN, for trials of an earlier run.
        kept: trials of an earlier run; new ones are added.
        observer: makes one for each calibration.
        say: is told of each trial.

    Raises:
        SettingsError: there is no candidate, or one twice, or the ANN's score is 0.
        CalibrationError: a candidate needs more images than there are.
    """
    check_candidates(candidates)
    if budget.mode == "max" and ann_score == 0:
        raise SettingsError(
            "The ANN's score is 0, and nothing can be lost of it: check the labels and the metric, and set "
            "mode='min' if less is better"
        )
    for candidate in candidates:
        candidate.pipeline.check_images(start.count)
    tried: list[tuple[Candidate, Trial]] = []
    keys: list[str] = []
    # Trials that were kept at the default prices say nothing of any.
    scored_by += "" if budget.energy == EnergyModel() else f" {budget.energy!r}"
    snn: SpikingModel | None = None
    folder = None if kept is None else kept.folder
    steps = [start.latency_steps(one.pipeline) for one in candidates]
    for candidate in budget.order(candidates, steps, [start.cost(one.pipeline) for one in candidates]):
        if budget.is_settled(candidate, tried):
            continue
        keys.append(files.fingerprint([f"{start.fingerprint(candidate.pipeline)} {scored_by}".encode()]))
        new, trial = None, None if kept is None else kept.trial(keys[-1])
        if trial is not None:
            met = trial.drop <= budget.max_drop
            trial = replace(trial, pipeline=candidate.name, neuron=candidate.neuron, met=met)
        else:
            say(f"Trying {candidate.title}")
            new, trial = _try(start, candidate, budget, ann_score, score, observer(), folder)
        tried.append((candidate, trial))
        best = budget.best([one for _, one in tried])
        if is_best := best == len(tried) - 1:
            snn = new
        if kept is not None and new is not None:
            kept.add(keys[-1], trial, new, is_best)
        say(trial.line if new is not None else f"{trial.line} in an earlier run")
    chosen, trial = tried[best]
    if snn is None and kept is not None:
        snn = kept.load(keys[best], start.device, start.ann)
    if snn is None:
        say(f"Calibrating {trial.title} again: only its numbers were kept")
        snn, _ = start.calibrate(chosen.pipeline, observer())
    return BudgetResult(snn, chosen.pipeline, tuple(one for _, one in tried), trial, ann_score, budget)


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """Check what may be tried.

    Raises:
        SettingsError: there is none, or one twice.
    """
    if not candidates:
        raise SettingsError("candidates is empty: give at least one pipeline, such as ACP(timesteps=8)")
    for i, one in enumerate(candidates):
        if any(one.pipeline == other.pipeline for other in candidates[:i]):
            raise SettingsError(
                f"candidates has {one.title} twice with the same settings: leave one of them out"
            )


def _try(
    start: StartingPoint,
    candidate: Candidate,
    budget: Budget,
    ann_score: float,
    score: Callable[[SpikingModel], float],
    observer: Observer,
    partial: Path | None,
) -> tuple[SpikingModel, Trial]:
    """Calibrate and score a candidate."""
    wall, cpu = time.perf_counter(), time.process_time()
    snn, left = start.calibrate(candidate.pipeline, observer, partial)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    value, images = score(snn), start.images(MEASURED)
    energy, drop = measure_energy(snn, images, model=budget.energy), budget.drop(ann_score, value)
    trial = Trial(
        candidate.name,
        candidate.neuron,
        candidate.pipeline.timesteps,
        snn.latency_steps,
        value,
        drop,
        drop <= budget.max_drop,
        round(energy.ratio, 6) if energy.ann_energy else None,
        _seconds_an_image(snn, images),
        round(wall, 3),
        round(cpu, 3),
    )
    if left is not None:
        left.remove()
    return snn, trial


@torch.no_grad()
def _seconds_an_image(snn: SpikingModel, images: Tensor) -> float:
    """Return the seconds that the simulation of an image takes."""
    started = time.perf_counter()
    snn(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return round((time.perf_counter() - started) / len(images), 9)
