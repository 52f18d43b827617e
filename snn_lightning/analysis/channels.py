"""The error of every channel of every site."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_lightning.analysis.mismatch import averaging, counterpart
from snn_lightning.errors import SettingsError
from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.model import SpikingModel


@torch.no_grad()
def channel_errors(ann: nn.Module, snn: SpikingModel, images: Tensor) -> dict[str, Tensor]:
    """Return the relative error of each channel, `||x - s̄||² / ||x||²` (PC 3.4, Fig. 2 and 5).

    Args:
        ann: the network that was converted, or its normalised `StageNetwork`; left as it is.
        snn: the spiking network, in eval mode, on the ANN's scale (before `rescale_to_unit_spikes`).
        images: `[N, ...]` on their device.

    Returns:
        By site, in topological order, `[C]`, float64 on the CPU; norms are over images and positions. 1 where
        the ANN's channel is always 0 and the SNN's is not, and 0 where both are.

    Raises:
        ConversionError: the ANN can't be converted.
        SettingsError: there is no image, or `snn` is no SNN of this ANN.

    Example:
        >>> from snn_lightning import convert
        >>> ann, images = nn.ReLU(), torch.tensor([[1.0, 0.5], [0.5, 0.5]])
        >>> channel_errors(ann, convert(ann, images, timesteps=1), images)
        {'relu': tensor([0.2000, 0.0000], dtype=torch.float64)}
    """
    if len(images) == 0:
        raise SettingsError("channel_errors needs at least one image")
    errors = _ChannelErrors(counterpart(ann, snn, images))
    for chunk in images.split(snn.images_at_once):
        with averaging(snn) as means:
            snn(chunk)
        errors.count(chunk, {site: means[site][1] for site in errors.network.sites})
    return {site: _ratio(*squares).cpu() for site, squares in errors.squares.items()}


def _ratio(error: Tensor, square: Tensor) -> Tensor:
    return torch.where(square > 0, error / square, (error > 0).to(error))


class _ChannelErrors(ANNInterpreter):
    """Runs the ANN beside the SNN's rates, and adds up ||x - s̄||² and ||x||² of each channel."""

    def __init__(self, network: StageNetwork) -> None:
        super().__init__(network, {})
        self.rates: dict[str, Tensor] = {}
        self.squares: dict[str, tuple[Tensor, Tensor]] = {}

    def count(self, images: Tensor, rates: dict[str, Tensor]) -> None:
        self.values, self.rates = {INPUT: images}, rates
        self.interpret()

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        x = super().unit(stage, current)
        if stage.kind == "neuron":
            pair = _by_channel(x - self.rates[stage.name]), _by_channel(x)
            if stage.name in self.squares:
                before = self.squares[stage.name]
                pair = before[0] + pair[0], before[1] + pair[1]
            self.squares[stage.name] = pair
        return x


def _by_channel(values: Tensor) -> Tensor:
    return values.double().square().transpose(0, 1).flatten(1).sum(1)
