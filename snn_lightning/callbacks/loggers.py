"""What a run leaves in its folder, given to loggers: figures, the page, and the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from snn_lightning.errors import SettingsError

FIGURES = ("report/*.png", "figures/*.png", "*.png")
ARTIFACTS = {
    "report": ("report.html", "report/*.csv", "figures/*.json", "results.json", "search.csv"),
    "snn": ("*.ckpt",),
}
"""Files of each artifact, by its type."""

Files = Mapping[str, Path]
Calls = Iterator[tuple[str, Callable[[], Any]]]


@rank_zero_only
def log_report(loggers: Logger | Sequence[Logger], folder: str | Path) -> None:
    """Give loggers the figures, the page, the results and the checkpoint in a folder; on process 0 only.

    W&B gets the figures as images, and two artifacts, of types "report" and "snn". TensorBoard gets images
    too, and as texts where the files lie. For all others, CSV among them, they lie in the folder. Where a
    logger fails, a warning says what it hasn't got.

    Args:
        loggers: of a Trainer, `trainer.loggers`.
        folder: of a run of `calibrate.py`, or where `write_report(..., png=True)` has written, and perhaps
            `trainer.save_checkpoint`.

    Raises:
        SettingsError: these are no loggers, or there is nothing to log in the folder.

    Example:
        >>> import torch
        >>> from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
        >>> from snn_lightning import convert, write_report
        >>> images = torch.rand(8, 2)
        >>> page = write_report(convert(torch.nn.ReLU(), images, timesteps=4), "run", images=images, png=True)
        >>> log_report([CSVLogger("logs"), TensorBoardLogger("logs")], "run")
        >>> len(list(Path("logs").rglob("events.*")))
        1
    """
    loggers, folder = [loggers] if isinstance(loggers, Logger) else loggers, Path(folder)
    if not isinstance(loggers, list | tuple) or not all(isinstance(one, Logger) for one in loggers):
        raise SettingsError(f"loggers must be those of a Trainer, trainer.loggers, got {loggers!r}")
    figures = {name.removesuffix(".png"): path for name, path in _found(folder, FIGURES).items()}
    artifacts = {kind: found for kind, names in ARTIFACTS.items() if (found := _found(folder, names))}
    if not (figures or artifacts):
        raise SettingsError(
            f"There is nothing to log in '{folder}': name the folder of a run, or the one that "
            "write_report(snn, folder, png=True) has written to."
        )
    for logger in loggers:
        missing: dict[str, list[str]] = {}
        for what, call in _calls(logger, figures, artifacts):
            try:
                call()
            except Exception as error:
                missing.setdefault(f"{type(error).__name__}: {error}", []).append(what)
        if missing:
            logging.getLogger(__name__).warning(
                "%s hasn't got %s. Nothing else is lost: the files are in '%s', and "
                "log_report(logger, folder) logs them later.",
                type(logger).__name__,
                "; ".join(f"{', '.join(whats)} ({reason})" for reason, whats in missing.items()),
                folder,
            )


def _found(folder: Path, patterns: Iterable[str]) -> Files:
    """Return the files that there are, by their names relative to the folder."""
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _calls(logger: Logger, figures: Files, artifacts: Mapping[str, Files]) -> Calls:
    """Yield what a logger gets next, and how; nothing for those whose files lie in the folder."""
    for kind, (figure, artifact) in _LOGS.items():
        if isinstance(logger, kind):
            for name, path in figures.items():
                yield f"figure {name}", partial(figure, logger, name, path)
            for name, files in artifacts.items():
                yield ", ".join(files), partial(artifact, logger, name, files)


def _wandb_image(logger: WandbLogger, name: str, path: Path) -> None:
    with Image.open(path) as image:
        caption = image.info.get("Title", name)  # what a chart of the page says of itself
    logger.log_image(name, [str(path)], caption=[caption])  # without a step: that of training stays


def _wandb_artifact(logger: WandbLogger, kind: str, files: Files) -> None:
    import wandb

    run = logger.experiment
    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    for name, path in files.items():
        # Read from where it lies: by default W&B first copies everything to the user's home.
        artifact.add_file(str(path), name, policy="immutable")
    run.log_artifact(artifact)


def _tensorboard_image(logger: TensorBoardLogger, name: str, path: Path) -> None:
    with Image.open(path) as image:
        logger.experiment.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")
    logger.experiment.flush()  # here, where a full disk costs no more than this


def _tensorboard_paths(logger: TensorBoardLogger, kind: str, files: Files) -> None:
    lines = [f"- `{path.absolute()}`" for path in files.values()]
    logger.experiment.add_text(kind, "\n".join(lines))
    logger.experiment.flush()


_LOGS: dict[type[Logger], tuple[Callable[..., None], Callable[..., None]]] = {
    WandbLogger: (_wandb_image, _wandb_artifact),
    TensorBoardLogger: (_tensorboard_image, _tensorboard_paths),
}
"""What logs a figure, and what logs the files of an artifact."""
