"""Partial checkpoints: a killed calibration goes on at the first unfinished stage."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_lightning import files
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.errors import CheckpointError
from snn_lightning.files import read_checkpoint, save_checkpoint, tensor_bytes
from snn_lightning.graph.ir import INPUT
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators.analog import AnalogModule


def fingerprint(network: StageNetwork, pipeline: Pipeline, images: Iterable[Tensor]) -> str:
    """Return what tells one calibration from another: spec, stages, parameters, settings and seed, data.

    Args:
        network: the normalised ANN.
        pipeline: its settings.
        images: all calibration images, in order.
    """
    state, images = sorted(network.state_dict().items()), list(images)
    parameters = (part for name, value in state for part in (name.encode(), tensor_bytes(value)))
    settings = repr((network.spec(), pipeline)).encode()
    outputs: list[Tensor] = []
    if any(isinstance(m, AnalogModule) and m.module for m in network.operators.values()):
        # The code and the attributes of the user's own modules show in what they give.
        device = next((tensor.device for tensor in network.state_dict().values()), images[0].device)
        with torch.no_grad():
            values = network.run_operators(network.nodes, {INPUT: images[0][:1].to(device)})
        outputs = [value for _, value in sorted(values.items())]
    return files.fingerprint(chain([settings], parameters, map(tensor_bytes, (*images, *outputs))))


class PartialCheckpoint:
    """The state of a calibration after each stage, replaced atomically.

    Args:
        path: the file.
        key: fingerprint of the calibration.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self.path, self.key = Path(path), key

    def save(
        self, finished: int, state: dict[str, Tensor], spec: dict[str, Any], records: list[dict[str, Any]]
    ) -> None:
        """Replace the checkpoint: `finished` stages are done."""
        state = {name: value.detach().cpu() for name, value in state.items()}
        contents = {"finished": finished, "state_dict": state, "spec": spec, "records": records}
        save_checkpoint(self.path, {"fingerprint": self.key, **contents})

    def load(self) -> dict[str, Any] | None:
        """Return what an earlier run left, or None if there is nothing.

        Raises:
            CheckpointError: it is damaged, or belongs to another calibration.
        """
        if not self.path.exists():
            return None
        contents = read_checkpoint(self.path)
        if contents.get("fingerprint") != self.key:
            raise CheckpointError(
                f"The partial calibration '{self.path}' belongs to another network, data set or setting. "
                "Delete it to start afresh, or name another folder."
            )
        return contents

    def remove(self) -> None:
        """Delete the checkpoint once the calibration is complete."""
        self.path.unlink(missing_ok=True)
