"""The setting that leaves the worst sites analog."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.spiking.model import SpikingModel


def analog_setting(ann: nn.Module, snn: SpikingModel, sites: Sequence[str]) -> str:
    """Return the setting that leaves `sites` analog, to paste into a YAML file for `calibrate.py`.

    A module that computes several sites leaves them all analog, which a comment says. A site that is a
    function call in a module's code has no name of its own, and is only mentioned.

    Args:
        ann: the network that was converted.
        snn: the spiking network.
        sites: names, such as those of `SensitivityReport.worst`.

    Raises:
        SettingsError: the SNN has no such site.

    Example:
        >>> import torch
        >>> from snn_lightning import convert
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> print(analog_setting(ann, convert(ann, torch.rand(8, 2), timesteps=4), ["_3"]))
        analog:
          - '3'
    """
    paths = {site: snn.network.nodes[site].path for site in snn.network.sites}
    modules = dict(ann.named_modules())
    listed: list[str] = []
    nameless: list[str] = []
    for site in sites:
        if site not in paths:
            raise SettingsError(unknown("site", site, paths))
        path = paths[site]
        if not path or path not in modules or list(modules[path].children()):
            nameless.append(
                f"# {site} is a function call in '{path}': make it a module of its own to name it"
            )
        elif path not in listed:
            listed.append(path)
    lines = ["analog:" if listed else "analog: []"]
    for path in listed:
        others = [site for site, own in paths.items() if own == path and site not in sites]
        lines.append(f"  - '{path}'" + (f"  # and with it {', '.join(others)}" if others else ""))
    return "\n".join([*lines, *nameless])
