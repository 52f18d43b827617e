"""What prediction and measurement both need: the SNN's output, and the errors of its sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snn_lightning.analysis.mismatch import averaging
from snn_lightning.errors import SettingsError
from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.model import SpikingModel


class Activations(ANNInterpreter):
    """Runs the ANN on `images` `[N, ...]`, and keeps what each site gives.

    Example:
        >>> from snn_lightning.graph import normalise
        >>> images = torch.tensor([[-1.0, 2.0]])
        >>> Activations(normalise(torch.nn.ReLU(), images), images).activations
        {'relu': tensor([[0., 2.]])}
    """

    def __init__(self, network: StageNetwork, images: Tensor) -> None:
        super().__init__(network, {INPUT: images})
        self.activations: dict[str, Tensor] = {}
        self.interpret()

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        """Return a unit's activation."""
        x = super().unit(stage, current)
        if stage.kind == "neuron":
            self.activations[stage.name] = x.detach()
        return x


@torch.no_grad()
def simulate(
    network: StageNetwork, snn: SpikingModel, images: Tensor, local: bool
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return the SNN's output `[N, K]`, and by site what its rate should be and is, `[N, ...]`.

    Example:
        >>> from snn_lightning import convert
        >>> ann, images = torch.nn.ReLU(), torch.tensor([[1.0], [0.5]])
        >>> snn = convert(ann, images, timesteps=1)
        >>> output, targets, rates = simulate(snn.network, snn, images, local=False)
        >>> targets["relu"].tolist(), rates["relu"].tolist()
        ([[1.0], [0.5]], [[1.0], [1.0]])
    """
    with averaging(snn) as means:
        output = flat(snn(images))
    rates = {site: means[site][1] for site in network.sites}
    if local:
        return output, {site: network.operators[site](means[site][0]) for site in network.sites}, rates
    return output, Activations(network, images).activations, rates


def flat(output: Any) -> Tensor:
    """Return an output of any structure as `[N, K]`.

    Example:
        >>> flat({"boxes": torch.ones(2, 3), "score": (torch.ones(2), None)}).shape
        torch.Size([2, 4])
    """
    if isinstance(output, Tensor):
        return output.flatten(1) if output.dim() > 1 else output[:, None]
    parts = output.values() if isinstance(output, Mapping) else output
    return torch.cat([flat(part) for part in parts if part is not None], 1)


def square(values: Tensor) -> float:
    """Return ||values||².

    Example:
        >>> square(torch.tensor([3.0, 4.0]))
        25.0
    """
    return values.double().square().sum().item()


def check_images(images: Tensor, name: str) -> None:
    """Raise a SettingsError of the function `name` if there is no image.

    Example:
        >>> check_images(torch.ones(1, 2), "sensitivity")
    """
    if len(images) == 0:
        raise SettingsError(f"{name} needs at least one image")
