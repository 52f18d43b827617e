"""Self-describing checkpoints: the spiking network's spec travels with its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from snn_lightning.errors import CheckpointError
from snn_lightning.files import read_checkpoint, save_checkpoint
from snn_lightning.spiking.model import SpikingModel

KEY = "snn_lightning"
"""Where a checkpoint keeps the spec."""

WHOLE = "snn"
"""Where a module keeps the SNN that runs in place of its own `forward`."""

Module = TypeVar("Module", bound=nn.Module)


def find_spiking_model(module: nn.Module) -> tuple[str, SpikingModel] | None:
    """Return the qualified name and the first `SpikingModel` inside `module`, or None."""
    for name, child in module.named_modules():
        if isinstance(child, SpikingModel):
            return name, child
    return None


def place(module: nn.Module, network: nn.Module, paths: Sequence[str], whole: bool = False) -> None:
    """Put `network` into `module`.

    Args:
        module: holds it afterwards.
        network: an SNN, or the ANN that it has replaced.
        paths: qualified names under which `module` holds it.
        whole: let it run in place of the module's own `forward` as well.
    """
    for path in paths:
        parent, _, attribute = path.rpartition(".")
        module.get_submodule(parent)._modules[attribute] = network
    if whole:
        # Not as an attribute of the module, which would take a module for a submodule called "forward".
        vars(module)["forward"] = network.__call__


def runs_whole(module: nn.Module, network: nn.Module) -> bool:
    """Whether `network` runs in place of the module's own `forward`."""
    return getattr(vars(module).get("forward"), "__self__", None) is network


def write_spec(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Add the spec of the spiking network inside `module`, if there is one, to `checkpoint`."""
    found = find_spiking_model(module)
    if found is not None:
        name, model = found
        entry: dict[str, Any] = {"attribute": name, "spec": model.spec()}
        others = [path for path, part in module.named_modules(remove_duplicate=False) if part is model]
        if others != [name]:
            entry["aliases"] = [path for path in others if path != name]
        if runs_whole(module, model):
            entry["whole"] = True
        checkpoint[KEY] = entry


def rebuild_spiking_model(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Put a fresh `SpikingModel` into `module` where `checkpoint` had one, so that its parameters fit.

    Raises:
        CheckpointError: `module` has no such place.
    """
    if KEY not in checkpoint:
        return
    entry = checkpoint[KEY]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    model = SpikingModel.from_spec(entry["spec"]).to(device)
    paths, whole = [entry["attribute"], *entry.get("aliases", ())], entry.get("whole", False)
    try:
        for path in () if whole else paths:
            module.get_submodule(path)
        place(module, model, paths, whole)
    except AttributeError as error:
        raise CheckpointError(
            f"The checkpoint holds a spiking network in '{entry['attribute']}', and {type(module).__name__} "
            f"has no such place ({error}): load it into the class it was saved from, or load the network "
            "alone with load_converted(path)."
        ) from error


class SpikingCheckpoint:
    """Mix in front of LightningModule, so that `load_from_checkpoint` gives back a calibrated SNN."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the conversion spec."""
        assert isinstance(self, nn.Module)
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        write_spec(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the SNN before its weights are loaded."""
        assert isinstance(self, nn.Module)
        rebuild_spiking_model(self, checkpoint)
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]


def load_from_checkpoint(cls: type[Module], path: str | Path, **settings: Any) -> Module:
    """Load a LightningModule with the SNN in its place, also if its class lacks `SpikingCheckpoint`.

    Args:
        cls: a LightningModule; its `load_from_checkpoint` does the rest.
        path: a checkpoint that a Trainer has written after a calibration.
        settings: keywords of `cls.load_from_checkpoint`.

    Raises:
        CheckpointError: the file is missing or damaged, holds no SNN, or is of another class.
    """
    if KEY not in read_checkpoint(path):
        raise _no_snn(path)
    loader: Any = (
        cls if issubclass(cls, SpikingCheckpoint) else type(cls.__name__, (SpikingCheckpoint, cls), {})
    )
    try:
        module = loader.load_from_checkpoint(path, **settings)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' does not fit {cls.__name__}: {error}. Load it into the class it was saved from, with "
            "the arguments that its checkpoint does not keep as keywords."
        ) from error
    module.__class__ = cls
    return cast(Module, module)


def _no_snn(path: str | Path) -> CheckpointError:
    return CheckpointError(
        f"'{path}' holds no spiking network: it is the checkpoint of an ANN. Calibrate it first, or name the "
        "checkpoint that the calibration wrote."
    )


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
        raise _no_snn(path)
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
