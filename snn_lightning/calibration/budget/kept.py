"""What a search keeps in a folder, so that it goes on after the last finished trial."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snn_lightning.analysis.trials import Trial
from snn_lightning.errors import CheckpointError
from snn_lightning.files import write_atomically
from snn_lightning.spiking.checkpoint import load_converted, save_converted
from snn_lightning.spiking.model import SpikingModel

FILE = "search.json"


class Kept:
    """Finished trials in `search.json`, by the fingerprints of their calibrations, and the best SNN.

    Args:
        folder: where; made when there is something to keep.

    Raises:
        CheckpointError: there is something else under that name.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / FILE
        try:
            found: Any = json.loads(path.read_text()) if path.exists() else {}
            both = {key: (one["trial"], one["stages"]) for key, one in found.items()}
            # Trials of which an earlier version kept other numbers are made again.
            known = {f.name for f in fields(Trial)}
            self._trials = {key: (Trial(**t), s) for key, (t, s) in both.items() if t.keys() == known}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"'{path}' is no file of trials; delete it to start afresh, or name another folder."
            ) from error

    def trial(self, key: str) -> Trial | None:
        """Return a finished trial."""
        return self._trials[key][0] if key in self._trials else None

    def add(self, key: str, trial: Trial, snn: SpikingModel, best: bool) -> None:
        """Keep a finished trial, with the records of its stages, and the SNN if it is the best so far."""
        if best:
            save_converted(snn, self._path(key))
            for other in self._trials:
                self._path(other).unlink(missing_ok=True)
        self._trials[key] = trial, snn.records
        kept = {k: {"trial": asdict(one), "stages": stages} for k, (one, stages) in self._trials.items()}
        # Other than results.json it has what is no finite number: the stages go on to loggers and the page.
        write_atomically(self.folder / FILE, (json.dumps(kept, indent=2, default=float) + "\n").encode())

    def load(self, key: str, device: torch.device, ann: nn.Module) -> SpikingModel | None:
        """Return the SNN of a trial, with the records of its stages, if it is the one that is kept."""
        if not self._path(key).exists():
            return None
        snn = load_converted(self._path(key), device, ann)
        snn.records = self._trials[key][1]
        return snn

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.ckpt"
