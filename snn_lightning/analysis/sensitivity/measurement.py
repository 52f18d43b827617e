"""What the errors of single sites do to the output, measured by simulation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.analysis.mismatch import counterpart
from snn_lightning.analysis.sensitivity.simulation import check_images, flat, simulate, square
from snn_lightning.spiking.model import SpikingModel


@torch.no_grad()
def measured_effect(
    ann: nn.Module, snn: SpikingModel, images: Tensor, local: bool = False
) -> dict[str, float]:
    """Take away the error of one site after the other, and simulate how much better the output becomes.

    What reads the site gets a constant current at every time step: the ANN's activation; with `local`, the
    activation at the mean current that the SNN delivers, which is what an analog operator gives there. So the
    unevenness of the spikes goes too, and what stands behind fires at other times: something may be gained or
    lost even where the rate has no error.

    Args:
        ann: see `sensitivity`.
        snn: see `sensitivity`.
        images: `[N, ...]` on their device.
        local: whether only the site's own error goes, or that of earlier sites in its input too.

    Returns:
        By site how much smaller ||y - ȳ||² over ||y||² is, in topological order; negative where the error
        made up for another.

    Raises:
        ConversionError: the ANN can't be converted.
        SettingsError: there is no image, or `snn` is no SNN of this ANN.

    Example:
        >>> from snn_lightning import convert
        >>> ann, images = nn.ReLU(), torch.tensor([[1.0], [0.5]])
        >>> measured_effect(ann, convert(ann, images, timesteps=1), images)  # 0.5 becomes 1
        {'relu': 0.2}
    """
    check_images(images, "measured_effect")
    network = counterpart(ann, snn, images)
    left = dict.fromkeys(network.sites, 0.0)
    squares = wrong = 0.0
    for chunk in images.split(snn.images_at_once):
        output, targets, _ = simulate(network, snn, chunk, local)
        expected = flat(network(chunk))
        squares += square(expected)
        wrong += square(expected - output)
        for site in network.sites:
            with replacing(snn, {site: targets[site]}):
                left[site] += square(expected - flat(snn(chunk)))
    return {site: (wrong - error) / (squares or 1.0) for site, error in left.items()}


@contextmanager
def replacing(snn: SpikingModel, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the readers of some sites get a constant current in place of spikes while `snn` simulates inside.

    Args:
        snn: the spiking network.
        values: by site, `[N, ...]`, of the one batch that is simulated.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=2)
        >>> with replacing(snn, {"relu": torch.tensor([[0.3]])}):
        ...     snn(torch.tensor([[0.5]]))
        tensor([[0.3000]])
    """

    def constant(value: Tensor) -> Any:
        def hook(unit: nn.Module, args: Any, output: Any) -> Any:
            return value.expand(len(output[0]), *value.shape), output[1]

        return hook

    handles = [snn.units[site].register_forward_hook(constant(value)) for site, value in values.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
