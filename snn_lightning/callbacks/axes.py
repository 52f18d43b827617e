"""What a calibration tells a logger, on an axis of its own: stages, or iterations within one."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

STAGE = "calibration/stage"
ITERATION = "calibration/iteration"
NAME = "calibration/name"


class CalibrationAxes:
    """Logs numbers over stages and iterations, whatever step training has come to.

    W&B gets the axis as the metric that the others are drawn over; `trainer/global_step` stays training's.
    All other loggers get the position as their step.
    """

    def __init__(self) -> None:
        self._defined: set[tuple[WandbLogger, str]] = set()

    def log(
        self, logger: Logger, axis: str, position: int, numbers: Mapping[str, float], name: str = ""
    ) -> None:
        """Log numbers that belong together.

        Args:
            logger: of a Trainer.
            axis: `STAGE` or `ITERATION`.
            position: on the axis, a whole number.
            numbers: what is drawn over it.
            name: of the stage; for loggers that take texts.
        """
        numbers = {axis: float(position), **numbers}
        row = {**numbers, NAME: name} if name else numbers
        if isinstance(logger, WandbLogger):
            self._define(logger, axis, row)
            logger.log_metrics(row)  # type: ignore[arg-type]
        elif isinstance(logger, CSVLogger):
            logger.log_metrics(row, step=position)  # type: ignore[arg-type]
        else:
            logger.log_metrics(numbers, step=position)
            if name and isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text(NAME, name, position)

    def _define(self, logger: WandbLogger, axis: str, row: Mapping[str, object]) -> None:
        """Tell W&B once what each metric is drawn over; Lightning has told it that all are over its steps."""
        prefix = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}" if logger._prefix else ""
        for key in row:
            if (logger, key) not in self._defined:
                over = None if key == axis else f"{prefix}{axis}"
                logger.experiment.define_metric(f"{prefix}{key}", step_metric=over)
                self._defined.add((logger, key))
