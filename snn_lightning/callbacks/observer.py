"""Calibration progress to the Trainer's loggers."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from snn_lightning.calibration.walk.eta import StageCosts
from snn_lightning.calibration.walk.observer import Observer, RichObserver
from snn_lightning.calibration.walk.records import StageRecord


class LoggingObserver(Observer):
    """Logs each stage to all loggers of the Trainer, and shows progress if it does; on process 0 only.

    Args:
        trainer: the outer Trainer.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.step = trainer.global_step
        self.active = trainer.is_global_zero
        bar = trainer.progress_bar_callback
        shown = self.active and bool(getattr(bar, "is_enabled", False))
        self.display: Observer = RichObserver() if shown else Observer()
        self.below_tqdm = shown and isinstance(bar, TQDMProgressBar)
        self.name = ""

    def __enter__(self) -> LoggingObserver:
        if self.below_tqdm:
            print()  # that bar is still drawn, on a line without an end
        self.display.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.display.__exit__(None, None, None)
        for logger in self.trainer.loggers if self.active else ():
            logger.save()

    def begin(self, costs: StageCosts) -> None:
        """Let the display know what each stage costs."""
        self.display.begin(costs)

    def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
        """Show which stage it is."""
        self.name = name
        self.display.stage_started(index, total, name, resumed)

    def iteration(self, index: int, iteration: int, iterations: int, loss: float) -> None:
        """Log a point of the loss curve."""
        self.display.iteration(index, iteration, iterations, loss)
        self._log({f"calibration/loss/{self.name}": loss, "calibration/iteration": float(iteration)})

    def stage_finished(self, record: StageRecord, total: int) -> None:
        """Log thresholds, errors before and after each step, firing rate and seconds."""
        self.display.stage_finished(record, total)
        metrics = {"stage": float(record.index), "error": record.error, "seconds": record.seconds}
        if record.threshold is not None:
            metrics["threshold_min"], metrics["threshold_max"] = record.threshold
        if record.firing_rate is not None:
            metrics["firing_rate"] = record.firing_rate
        for step, numbers in record.steps.items():
            metrics.update({f"{step}_{key}": numbers[key] for key in ("before", "after")})
        self._log({f"calibration/{key}": value for key, value in metrics.items() if not math.isnan(value)})

    def _log(self, metrics: dict[str, float]) -> None:
        if self.active:
            self.step += 1
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, step=self.step)
