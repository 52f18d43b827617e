"""Self-describing checkpoints: the spiking network's spec travels with its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from snn_lightning.errors import CheckpointError
from snn_lightning.files import read_checkpoint, save_checkpoint
from snn_lightning.spiking.model import SpikingModel

KEY = "snn_lightning"
"""Where a checkpoint keeps the spec."""


def find_spiking_model(module: nn.Module) -> tuple[str, SpikingModel] | None:
    """Return the qualified name and the first `SpikingModel` inside `module`, or None."""
    for name, child in module.named_modules():
        if isinstance(child, SpikingModel):
            return name, child
    return None


def write_spec(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Add the spec of the spiking network inside `module`, if there is one, to `checkpoint`."""
    found = find_spiking_model(module)
    if found is not None:
        name, model = found
        checkpoint[KEY] = {"attribute": name, "spec": model.spec()}


def rebuild_spiking_model(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Put a fresh `SpikingModel` into `module` where `checkpoint` had one, so that its parameters fit."""
    if KEY in checkpoint:
        entry = checkpoint[KEY]
        parent_name, _, attribute = entry["attribute"].rpartition(".")
        parent = module.get_submodule(parent_name)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        setattr(parent, attribute, SpikingModel.from_spec(entry["spec"]).to(device))


class SpikingCheckpoint:
    """Mix in front of LightningModule, so that `load_from_checkpoint` gives back a calibrated SNN."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the conversion spec."""
        assert isinstance(self, nn.Module)
        write_spec(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the SNN before its weights are loaded."""
        assert isinstance(self, nn.Module)
        rebuild_spiking_model(self, checkpoint)


def save_converted(model: SpikingModel, path: str | Path) -> None:
    """Save a spiking network so that `load_converted` gives it back bit for bit."""
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    save_checkpoint(path, {KEY: {"attribute": "", "spec": model.spec()}, "state_dict": state})


def load_converted(path: str | Path, device: torch.device | str = "cpu") -> SpikingModel:
    """Load the spiking network of a checkpoint written by `save_converted` or by a Trainer after calibration.

    Args:
        path: the checkpoint.
        device: where the model goes.

    Raises:
        CheckpointError: the file is missing, damaged, or of an ANN.
    """
    checkpoint = read_checkpoint(path)
    if KEY not in checkpoint:
        raise CheckpointError(
            f"'{path}' holds no spiking network: it is the checkpoint of an ANN. Calibrate it first, or name "
            "the checkpoint that the calibration wrote."
        )
    entry = checkpoint[KEY]
    model = SpikingModel.from_spec(entry["spec"])
    prefix = f"{entry['attribute']}." if entry["attribute"] else ""
    state = {k[len(prefix) :]: v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"The parameters in '{path}' do not fit its own description: {error}"
        ) from error
    return model.to(device)
