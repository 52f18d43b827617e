"""Self-describing checkpoints: the spiking network's spec travels with its parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from snn_lightning.errors import CheckpointError
from snn_lightning.files import read_checkpoint, save_checkpoint, tensor_bytes
from snn_lightning.spiking.model import SpikingModel

KEY = "snn_lightning"
"""Where a checkpoint keeps the entry: the spec, and a digest of it and of the network's tensors."""

WHOLE = "snn"
"""Where a module keeps the SNN that runs in place of its own `forward`."""

Module = TypeVar("Module", bound=nn.Module)


def find_spiking_model(module: nn.Module) -> tuple[str, SpikingModel] | None:
    """Return the qualified name and the first `SpikingModel` inside `module`, or None."""
    for name, child in module.named_modules():
        if isinstance(child, SpikingModel):
            return name, child
    return None


def place(
    module: nn.Module, network: SpikingModel, paths: Sequence[str], whole: bool = False
) -> Callable[[], None]:
    """Put `network` into `module`.

    Args:
        module: holds it afterwards.
        network: an SNN.
        paths: qualified names under which `module` holds it.
        whole: let it run in place of the module's own `forward` as well.

    Returns:
        What puts back everything that was there before.
    """
    owners = [
        (module.get_submodule(parent)._modules, name)
        for parent, _, name in (p.rpartition(".") for p in paths)
    ]
    places: list[tuple[dict[str, Any], str]] = [*owners]
    if whole:
        places.append((vars(module), "forward"))
    before = [(owner, name, owner[name]) for owner, name in places if name in owner]
    for owner, name in owners:
        owner[name] = network
    if whole:
        # Not as an attribute of the module, which would take a module for a submodule called "forward".
        vars(module)["forward"] = network.__call__

    def undo() -> None:
        for owner, name in places:
            del owner[name]
        for owner, name, old in before:
            owner[name] = old

    return undo


def runs_whole(module: nn.Module, network: nn.Module) -> bool:
    """Whether `network` runs in place of the module's own `forward`."""
    return getattr(vars(module).get("forward"), "__self__", None) is network


def write_spec(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Add the spec of the spiking network inside `module`, if there is one, to `checkpoint`."""
    found = find_spiking_model(module)
    if found is not None:
        name, model = found
        checkpoint[KEY] = _entry(module, name, model, checkpoint.get("state_dict", module.state_dict()))


def rebuild_spiking_model(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Put the `SpikingModel` that `checkpoint` has, if it has one, into the same place in `module`.

    Raises:
        CheckpointError: the network differs from what was saved, or `module` has no such place.
    """
    if KEY not in checkpoint:
        return
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    entry = checkpoint[KEY]
    model = _load(checkpoint, "the checkpoint", _ann_in(module, entry)).to(device)
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


def _ann_in(module: nn.Module, entry: Any) -> nn.Module | None:
    """Return what stands in `module` where the SNN of a checkpoint goes: the ANN, or an earlier SNN."""
    try:
        return module if entry.get("whole") else module.get_submodule(entry["attribute"])
    except (AttributeError, KeyError, TypeError):
        return None


class SpikingCheckpoint:
    """Mix in front of LightningModule, so that `load_from_checkpoint` gives back a calibrated SNN.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> from snn_lightning import convert
        >>> class Lit(SpikingCheckpoint, LightningModule): ...
        >>> lit, checkpoint = Lit(), {}
        >>> lit.net = convert(nn.ReLU(), torch.rand(8, 2), timesteps=4)
        >>> lit.on_save_checkpoint(checkpoint)
        >>> checkpoint["snn_lightning"]["attribute"]
        'net'
    """

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

    Example:
        >>> from lightning.pytorch import LightningModule, Trainer
        >>> from snn_lightning import Baseline, CalibrationCallback
        >>> class Lit(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = nn.ReLU()
        ...     def forward(self, x):
        ...         return self.net(x)
        >>> loader = torch.utils.data.DataLoader(torch.rand(8, 2), batch_size=4)
        >>> callback = CalibrationCallback(Baseline(timesteps=4), loader)
        >>> trainer = Trainer(callbacks=[callback], logger=False, enable_progress_bar=False)
        >>> readouts = trainer.predict(Lit(), loader)
        >>> trainer.save_checkpoint("snn.ckpt")
        >>> load_from_checkpoint(Lit, "snn.ckpt").net.timesteps
        4
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
    if find_spiking_model(module) is None:
        raise CheckpointError(
            f"{cls.__name__}.on_load_checkpoint doesn't pass the spiking network of '{path}' on: let it call "
            "super().on_load_checkpoint(checkpoint)."
        )
    return cast(Module, module)


def _no_snn(path: str | Path) -> CheckpointError:
    return CheckpointError(
        f"'{path}' holds no spiking network: it is the checkpoint of an ANN. Calibrate it first, or name the "
        "checkpoint that the calibration wrote."
    )


def save_converted(model: SpikingModel, path: str | Path) -> None:
    """Save a spiking network so that `load_converted` gives it back bit for bit.

    Example:
        >>> from snn_lightning import convert
        >>> save_converted(convert(nn.ReLU(), torch.rand(8, 2), timesteps=4), "snn.ckpt")
        >>> Path("snn.ckpt").exists()
        True
    """
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    save_checkpoint(path, {KEY: _entry(model, "", model, state), "state_dict": state})


def load_converted(
    path: str | Path, device: torch.device | str = "cpu", ann: nn.Module | None = None
) -> SpikingModel:
    """Load the spiking network of a checkpoint written by `save_converted` or by a Trainer after calibration.

    Args:
        path: the checkpoint.
        device: where the model goes.
        ann: the network that was converted; needed where a module of the user's own is left analog.

    Raises:
        CheckpointError: the file is missing, damaged, or of an ANN; or a module of the user's own is missing.

    Example:
        >>> from snn_lightning import convert
        >>> snn, x = convert(nn.ReLU(), torch.rand(8, 2), timesteps=4), torch.rand(3, 2)
        >>> save_converted(snn, "snn.ckpt")
        >>> torch.equal(load_converted("snn.ckpt")(x), snn(x))
        True
    """
    checkpoint = read_checkpoint(path)
    if KEY not in checkpoint:
        raise _no_snn(path)
    return _load(checkpoint, f"'{path}'", ann).to(device)


def _entry(
    module: nn.Module, attribute: str, model: SpikingModel, state: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return what a checkpoint says of `model`, whose tensors are under `attribute` in its state_dict."""
    entry: dict[str, Any] = {"attribute": attribute, "spec": model.spec()}
    paths = [path for path, part in module.named_modules(remove_duplicate=False) if part is model]
    if others := [path for path in paths if path != attribute]:
        entry["aliases"] = others
    if runs_whole(module, model):
        entry["whole"] = True
    if missing := [name for name in model.state_dict() if name not in _own(state, attribute)]:
        raise CheckpointError(
            f"The checkpoint would lack {len(missing)} tensors of the spiking network, such as "
            f"'{missing[0]}': let state_dict() of {type(module).__name__} keep what is under '{attribute}'."
        )
    entry["digest"] = _digest(entry, _own(state, attribute))
    return entry


def _load(checkpoint: Mapping[str, Any], source: str, ann: nn.Module | None) -> SpikingModel:
    try:
        return _rebuilt(checkpoint, ann)
    except CheckpointError as error:
        raise CheckpointError(f"The spiking network in {source} can't be loaded. {error}") from error


def _rebuilt(checkpoint: Mapping[str, Any], ann: nn.Module | None) -> SpikingModel:
    """Return the spiking network of a checkpoint, if it is what was saved.

    Lightning reads its files itself and looks at no checksum of theirs: hence the digest inside.
    """
    entry, attribute = checkpoint[KEY], None
    if isinstance(entry, dict) and {"attribute", "spec"} <= entry.keys():
        attribute = entry["attribute"]
    if not isinstance(attribute, str) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise CheckpointError(
            "Its description or its parameters are missing: it is damaged. Name another checkpoint, or "
            "calibrate the ANN again."
        )
    state = _own(checkpoint["state_dict"], attribute)
    model = SpikingModel.from_spec(entry["spec"], state, ann)
    if any(value.dtype == torch.float64 for key, value in state.items() if key.startswith("units.")):
        model = model.double()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"The parameters do not fit its own description: {error}") from error
    # Checkpoints of older versions have the two keys alone.
    if entry.keys() != {"attribute", "spec"} and entry.get("digest") != _digest(entry, state):
        raise CheckpointError(
            "Its numbers or its description differ from those that were saved (their SHA-256 is another): it "
            "is damaged, or something changed it. Take another copy, or calibrate the ANN again."
        )
    return model


def _own(state: Mapping[str, Tensor], attribute: str) -> dict[str, Tensor]:
    """Return the tensors under `attribute` by their names in the spiking network."""
    prefix = f"{attribute}." if attribute else ""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _digest(entry: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all that the entry says and of the tensors: names, types, shapes and bytes."""
    sums = hashlib.sha256(repr([(key, entry[key]) for key in sorted(entry) if key != "digest"]).encode())
    for name, value in sorted(state.items()):
        sums.update(repr((name, value.dtype, tuple(value.shape))).encode())
        # Filters lie with their channels innermost: in this order they are not copied.
        sums.update(tensor_bytes(value.movedim(1, -1) if value.dim() == 4 else value))
    return sums.hexdigest()
