"""Which part of a LightningModule becomes spiking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from snn_lightning.calibration.recording import Part
from snn_lightning.errors import SettingsError
from snn_lightning.spiking.checkpoint import WHOLE
from snn_lightning.spiking.model import SpikingModel

NETWORK_NAMES = ("net", "model", "network", "backbone")
"""Attributes in which the network is looked for when it isn't named."""


def find_network(module: LightningModule, path: str | None) -> Part:
    """Return the network at `path`; without one that in `NETWORK_NAMES`, else the module itself.

    Raises:
        SettingsError: there is none; names the submodules.
    """
    for name in NETWORK_NAMES if path is None else (path,):
        try:
            part = module.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(part, SpikingModel):
            raise SettingsError(
                f"'{name}' of {type(module).__name__} holds a spiking network that is not calibrated. A "
                "calibration starts from the ANN: put that there, the callback converts it."
            )
        return Part(module, name, part)
    if path is None and is_overridden("forward", module):
        return whole(module)
    names = NETWORK_NAMES if path is None else (path,)
    children = ", ".join(f"'{name}'" for name, _ in module.named_children()) or "none"
    raise SettingsError(
        f"{type(module).__name__} has no network in {' or '.join(map(repr, names))}"
        f"{' and no forward of its own' if path is None else ''}; its submodules are {children}. Name it: "
        "CalibrationCallback(..., network='<attribute>')."
    )


def whole(module: LightningModule) -> Part:
    """Return the module's own `forward` as a network.

    Raises:
        SettingsError: the place of its SNN is taken.
    """
    if hasattr(module, WHOLE):
        raise SettingsError(
            f"{type(module).__name__} has an attribute '{WHOLE}' already, which is where the SNN goes that "
            "runs in place of its forward. Rename it, or name a part: "
            "CalibrationCallback(..., network='<attribute>')."
        )
    return Part(module, "", module)


@contextmanager
def noted(network: Part, inside: list[str], outside: list[str]) -> Iterator[None]:
    """Note which other parameters and submodules with some run, in the module's `forward` or outside it.

    Args:
        network: a part of a module.
        inside: names of those that run while `forward` does.
        outside: names of those that run while it doesn't.
    """
    module, own, depth = network.module, set(network.ann.modules()), [0]

    def enter(*_: object) -> None:
        depth[0] += 1
        # A module's own parameters are read unseen.
        inside.extend(module._parameters)

    def leave(*_: object) -> None:
        depth[0] -= 1

    handles = [
        module.register_forward_pre_hook(enter),
        module.register_forward_hook(leave, always_call=True),
    ]
    for name, part in module.named_modules():
        if part not in own and part is not module and part._parameters:

            def note(_: nn.Module, __: object, name: str = name) -> None:
                (inside if depth[0] else outside).append(name)

            handles.append(part.register_forward_pre_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
