"""Firing thresholds: the largest activation, a percentile of them, or the least squared error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.settings import Settings, check_choice, check_interval, check_whole
from snn_lightning.spiking import kernels
from snn_lightning.spiking.conversion import THRESHOLDS
from snn_lightning.thresholds.histogram import BINS, Histogram

GRANULARITIES = ("channel", "layer")

register_threshold = THRESHOLDS.register
"""Register a kind of threshold, so that a checkpoint can name it."""


@dataclass(frozen=True)
class Threshold(Settings):
    """Base of all thresholds.

    Args:
        granularity: "channel" finds one threshold a channel, "layer" one for the whole site.

    Example:
        >>> class Half(Threshold):
        ...     def find(self, histogram, timesteps, half_step):
        ...         return histogram.maximum / 2
        >>> Half("layer").channelwise
        False
    """

    granularity: str = "channel"

    def __post_init__(self) -> None:
        check_choice("threshold.granularity", self.granularity, GRANULARITIES)

    @property
    def channelwise(self) -> bool:
        """Whether each channel has a threshold of its own."""
        return self.granularity == "channel"

    def bins(self, timesteps: int) -> int:
        """Return how many bins its histogram should have."""
        return BINS

    def find(self, histogram: Histogram, timesteps: int, half_step: bool) -> Tensor:
        """Return a threshold for each row of `histogram`, `[R]`, activation units.

        Args:
            histogram: the ANN's activations at the site.
            timesteps: T.
            half_step: whether the neuron rounds (ClipRound) or floors (ClipFloor).
        """
        raise NotImplementedError

    def at_site(
        self, histogram: Histogram, timesteps: int, half_step: bool, cap: float | None, site: str
    ) -> Tensor:
        """Return a threshold for each row: what `find` gives, positive, and no more than the site's cap.

        Args:
            histogram: see `find`.
            timesteps: see `find`.
            half_step: see `find`.
            cap: the site's upper bound in activation units, or None.
            site: its name, for messages.
        """
        return positive(self.find(histogram, timesteps, half_step), cap)


@register_threshold
@dataclass(frozen=True)
class Max(Threshold):
    """The largest activation (MaxAct, Diehl et al. 2015): nothing is clipped.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(torch.nn.ReLU(), torch.tensor([[0.5, 2.0]]), timesteps=4, threshold=Max("layer"))
        >>> snn.neurons["relu"].v_th
        tensor(2.)
    """

    def find(self, histogram: Histogram, timesteps: int, half_step: bool) -> Tensor:
        """Return the maximum of each row."""
        return histogram.maximum


@register_threshold
@dataclass(frozen=True)
class Percentile(Threshold):
    """A percentile of all activations, zeros included (Rueckauer et al. 2017).

    Args:
        percentile: in (0, 100].

    Example:
        >>> from snn_lightning import convert
        >>> sample = torch.arange(101.0)[:, None]
        >>> snn = convert(torch.nn.ReLU(), sample, timesteps=4, threshold=Percentile(percentile=90))
        >>> snn.neurons["relu"].v_th.round()
        tensor([90.])
    """

    percentile: float = 99.99

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval("threshold.percentile", self.percentile, "(0, 100]")

    def find(self, histogram: Histogram, timesteps: int, half_step: bool) -> Tensor:
        """Return the value below which `percentile` percent of each row's activations lie, to 1 bin."""
        bins = histogram.count.shape[1]
        above = (1 - self.percentile / 100) * histogram.total
        # Activations in the bin and in all bins above it.
        tail = histogram.count.flip(1).cumsum(1).flip(1)
        more = torch.cat([tail, torch.zeros_like(tail[:, :1])], dim=1)
        # The first edge with at most `above` activations over it, then linearly inside the bin below it.
        edge = (more > above[:, None]).sum(1).clamp(max=bins)
        low = (edge - 1).clamp(min=0)
        upper, lower = more.gather(1, edge[:, None])[:, 0], more.gather(1, low[:, None])[:, 0]
        part = torch.where(
            lower > upper, (lower - above) / (lower - upper).clamp(min=1), torch.ones_like(above)
        )
        position = torch.where(edge > 0, low + part.clamp(0, 1), torch.full_like(above, 0.0))
        value = (position / bins * histogram.maximum).to(histogram.maximum.dtype)
        # A row that is positive less often than the percentile asks keeps the smallest useful threshold: its
        # maximum.
        return torch.where(value > 0, value, histogram.maximum)


@register_threshold
@dataclass(frozen=True)
class Cap(Threshold):
    """The site's own cap: 6 for ReLU6, λ for an activation trained with an upper bound.

    `v_th = cap` of the site `min(max(x, 0), cap)`, for activations that were trained to stay within the
    neuron's range (Ding et al. 2021, Deng & Gu 2021, Bu et al. 2022).

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(torch.nn.ReLU6(), torch.rand(8, 2), timesteps=4, threshold=Cap())
        >>> [neuron.v_th for neuron in snn.neurons.values()]
        [tensor(6.)]
    """

    granularity: str = "layer"

    def at_site(
        self, histogram: Histogram, timesteps: int, half_step: bool, cap: float | None, site: str
    ) -> Tensor:
        """Return the cap for each row; see `Threshold.at_site`.

        Raises:
            SettingsError: the site has none.
        """
        if cap is None:
            raise SettingsError(
                f"The site '{site}' has no cap that could be its threshold. Train the ANN with capped "
                "activations (activation=clipped, rate_norm or qcfs, or ReLU6), or choose another threshold, "
                "such as threshold=mmse."
            )
        return torch.full_like(histogram.maximum, cap)


@register_threshold
@dataclass(frozen=True)
class MMSE(Threshold):
    """The threshold with the least squared error of ClipRound (PC eq. 18, Algo. 1).

    `argmin_v sum (ClipRound(x, T, v) - x)^2` over `v = j / grid * max(x)`, j = 1...grid; ClipFloor where the
    neuron floors.

    Args:
        grid: number of candidates N.

    Example:
        >>> from snn_lightning import convert
        >>> sample = torch.cat([torch.full((999, 1), 0.25), torch.tensor([[4.0]])])
        >>> snn = convert(torch.nn.ReLU(), sample, timesteps=4, threshold=MMSE())
        >>> bool(snn.neurons["relu"].v_th < 4)  # clipping the largest costs less than rounding the others
        True
    """

    grid: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("threshold.grid", self.grid)

    def bins(self, timesteps: int) -> int:
        """Return as many bins as put the boundaries of all candidates on edges, if that is affordable."""
        exact = 2 * self.grid * timesteps
        return exact if exact <= 2 * BINS else BINS

    def find(self, histogram: Histogram, timesteps: int, half_step: bool) -> Tensor:
        """Return the best candidate of each row."""
        fractions = (
            torch.arange(1, self.grid + 1, dtype=torch.float64, device=histogram.maximum.device) / self.grid
        )
        errors = squared_errors(histogram, fractions, timesteps, half_step)
        # The smallest threshold among equals, so that rounding in the sums does not decide.
        slack = 1e-9 * histogram.second[:, None]
        best = (errors <= errors.amin(1, keepdim=True) + slack).to(torch.uint8).argmax(1)
        return (histogram.maximum.double() * fractions[best]).to(histogram.maximum.dtype)


def squared_errors(histogram: Histogram, fractions: Tensor, timesteps: int, half_step: bool) -> Tensor:
    """Return the squared quantisation error of each row for thresholds `fractions * maximum`.

    An activation between two rounding boundaries becomes the same k v / T, so the error needs only the count
    and the sum of the activations between boundaries: with prefix sums over the histogram, the cost does not
    depend on the number of activations.

    Args:
        histogram: of the activations.
        fractions: thresholds over the row's maximum, in (0, 1]: `[G]` for all rows, or `[R, G]`.
        timesteps: T.
        half_step: ClipRound's boundaries (k - 1/2) v / T, or ClipFloor's k v / T.

    Returns:
        Sums of squared errors `[R, G]`, float64, activation units squared.

    Example:
        >>> from snn_lightning.thresholds import histogram
        >>> counts = histogram([torch.tensor([[1.0], [4.0]])], torch.tensor([4.0]), channelwise=True)
        >>> fractions = torch.tensor([0.25, 1.0], dtype=torch.float64)
        >>> squared_errors(counts, fractions, timesteps=1, half_step=True).tolist()
        [[9.0, 1.0]]
    """
    levels = torch.arange(1, timesteps + 1, dtype=torch.float64, device=fractions.device)
    boundaries = (levels - (0.5 if half_step else 0.0)) * (fractions[..., None] / timesteps)
    bins = histogram.below.shape[1]
    position = boundaries * bins
    # A boundary that is an edge must not fall beside it by rounding.
    edge = position.round()
    position = torch.where((position - edge).abs() < 1e-6, edge, position).clamp_(max=bins)
    # The k-th boundary passed turns an error (x - (k - 1) step)^2 into (x - k step)^2.
    weight = 2 * levels - 1
    below = kernels.sums_below(histogram.below, position, weight)
    whole = histogram.below[:, -1:] * torch.stack([weight.sum(), weight.new_tensor(timesteps)])
    counts, sums = (whole - below).unbind(-1)
    step = fractions * histogram.maximum.double()[:, None] / timesteps
    return histogram.second[:, None] + counts * step**2 - 2 * step * sums


def positive(v_th: Tensor, cap: float | None = None) -> Tensor:
    """Give every row a positive finite threshold, no more than the site's cap.

    A row whose activation is never positive gets the layer's largest threshold, or 1.

    Example:
        >>> positive(torch.tensor([0.0, 2.0]))
        tensor([2., 2.])
    """
    largest = v_th.amax()
    v_th = torch.where(v_th > 0, v_th, torch.where(largest > 0, largest, torch.ones_like(largest)))
    return v_th if cap is None else v_th.clamp(max=cap)
