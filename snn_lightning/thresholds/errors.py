"""How the squared error of a site depends on its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.settings import check_whole
from snn_lightning.thresholds.histogram import histogram, row_maximum
from snn_lightning.thresholds.settings import MMSE, Max, Percentile, squared_errors


@dataclass(frozen=True)
class ThresholdErrors:
    """Errors of one site by threshold and T, and what three ways choose. From `threshold_errors`.

    Args:
        thresholds: `[G]`, activation units.
        errors: by T the mean squared error, `[G]`, activation units squared.
        maximum: the largest activation.
        percentile: the threshold that is a percentile of the activations.
        mmse: by T the threshold with the least squared error.
        percent: which percentile.
    """

    thresholds: Tensor
    errors: dict[int, Tensor]
    maximum: float
    percentile: float
    mmse: dict[int, float]
    percent: float


@torch.no_grad()
def threshold_errors(
    activations: Tensor,
    timesteps: Sequence[int],
    grid: int = 100,
    percent: float = 99.99,
    half_step: bool = True,
) -> ThresholdErrors:
    """Return the error of one site for every candidate of its threshold (PC eq. 18, Algo. 1, Fig. 4).

    `mean (ClipRound(x, T, v) - x)²` for `v = j / grid * max(x)`, j = 1...grid.

    Args:
        activations: of the ANN at the site, `[N, C, ...]`; one threshold for all channels.
        timesteps: every T.
        grid: number of candidates.
        percent: of the percentile, in (0, 100].
        half_step: whether the neuron rounds (ClipRound) or floors (ClipFloor).

    Raises:
        SettingsError: a field makes no sense, no activation is positive, or one is not finite.

    Example:
        >>> found = threshold_errors(torch.tensor([[1.0], [4.0]]), timesteps=[1], grid=4)
        >>> found.thresholds.tolist(), found.errors[1].tolist(), found.mmse
        ([1.0, 2.0, 3.0, 4.0], [4.5, 2.5, 1.0, 0.5], {1: 4.0})
    """
    check_whole("grid", grid)
    if not timesteps:
        raise SettingsError("timesteps must name at least one T")
    for steps in timesteps:
        check_whole("timesteps", steps)
    if not activations.isfinite().all():
        raise SettingsError("threshold_errors needs activations that are finite")
    maximum = row_maximum([activations], channelwise=False) if activations.numel() else torch.zeros(1)
    if not maximum > 0:
        raise SettingsError("threshold_errors needs activations of which at least one is positive")
    fractions = torch.arange(1, grid + 1, dtype=torch.float64, device=maximum.device) / grid
    rule, errors, mmse = MMSE("layer", grid=grid), {}, {}
    for steps in timesteps:
        counts = histogram([activations], maximum, channelwise=False, bins=rule.bins(steps))
        errors[steps] = (squared_errors(counts, fractions, steps, half_step) / counts.total)[0].cpu()
        mmse[steps] = rule.find(counts, steps, half_step).item()
    counts = histogram([activations], maximum, channelwise=False)
    chosen = [rule.find(counts, 1, half_step).item() for rule in (Max("layer"), Percentile("layer", percent))]
    return ThresholdErrors((fractions * maximum.double()).cpu(), errors, chosen[0], chosen[1], mmse, percent)
