"""Which part of a LightningModule becomes spiking, and how it is put in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from snn_lightning.errors import SettingsError
from snn_lightning.spiking.checkpoint import WHOLE, place
from snn_lightning.spiking.model import SpikingModel

NETWORK_NAMES = ("net", "model", "network", "backbone")
"""Attributes in which the network is looked for when it isn't named."""


@dataclass(frozen=True)
class Network:
    """The ANN of a LightningModule.

    Args:
        module: the LightningModule.
        path: qualified name of the part, "" for the module's own `forward`.
        ann: the part, or the module itself.
    """

    module: LightningModule
    path: str
    ann: nn.Module

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"the network '{self.path}'" if self.path else f"{type(self.module).__name__}.forward"

    @cached_property
    def paths(self) -> list[str]:
        """Every name under which the module holds it; for the module's own `forward` that of the SNN.

        They stay those of the ANN, whatever takes its place.
        """
        if not self.path:
            return [WHOLE]
        same = [name for name, part in self.module.named_modules(remove_duplicate=False) if part is self.ann]
        return [self.path, *(name for name in same if name != self.path)]

    def replace(self, snn: SpikingModel) -> Callable[[], None]:
        """Put the SNN into its place; returns what puts the ANN back."""
        return place(self.module, snn, self.paths, whole=not self.path)


def find_network(module: LightningModule, path: str | None) -> Network:
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
        return Network(module, name, part)
    if path is None and is_overridden("forward", module):
        return whole(module)
    names = NETWORK_NAMES if path is None else (path,)
    children = ", ".join(f"'{name}'" for name, _ in module.named_children()) or "none"
    raise SettingsError(
        f"{type(module).__name__} has no network in {' or '.join(map(repr, names))}"
        f"{' and no forward of its own' if path is None else ''}; its submodules are {children}. Name it: "
        "CalibrationCallback(..., network='<attribute>')."
    )


def whole(module: LightningModule) -> Network:
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
    return Network(module, "", module)


@contextmanager
def noted(network: Network, inside: list[str], outside: list[str]) -> Iterator[None]:
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
