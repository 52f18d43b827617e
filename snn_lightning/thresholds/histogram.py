"""Histograms of activations that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_lightning.spiking import kernels

BINS = 4096


@dataclass(frozen=True)
class Histogram:
    """Distribution of non-negative activations, a row a channel (or one row for the layer).

    Args:
        maximum: largest activation of each row, `[R]`, activation units; 0 for a row that is never positive.
        below: number and sum of the positive activations in each bin of width `maximum / BINS` and in those
            below it, `[R, BINS, 2]`, float64.
        second: sum of squares of each row, `[R]`, float64.
        total: all activations of each row, zeros included, `[R]`, float64.

    Example:
        >>> counts = histogram([torch.tensor([[1.0], [3.0]])], torch.tensor([3.0]), channelwise=True, bins=3)
        >>> counts.total.tolist(), counts.second.tolist(), counts.count.sum().item()
        ([2.0], [10.0], 2.0)
    """

    maximum: Tensor
    below: Tensor
    second: Tensor
    total: Tensor

    @property
    def count(self) -> Tensor:
        """Positive activations in each bin, `[R, BINS]`."""
        return self.below[..., 0].diff(dim=1, prepend=self.below.new_zeros(len(self.below), 1))

    @property
    def first(self) -> Tensor:
        """Sum of the activations in each bin, `[R, BINS]`, activation units."""
        return self.below[..., 1].diff(dim=1, prepend=self.below.new_zeros(len(self.below), 1))

    def parts(self) -> tuple[Tensor, ...]:
        """Return what adds up over batches and processes."""
        return self.below, self.second, self.total


def row_maximum(chunks: Iterable[Tensor], channelwise: bool) -> Tensor:
    """Return the largest activation of each row, `[R]`, never below 0.

    Example:
        >>> chunks = [torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, -4.0]])]
        >>> row_maximum(chunks, channelwise=True), row_maximum(chunks, channelwise=False)
        (tensor([2., 5.]), tensor([5.]))
    """
    largest = torch.stack([kernels.maxima_and_squares(x)[0] for x in chunks]).amax(0)
    return largest if channelwise else largest.amax().view(1)


def _joined(chunks: Iterable[Tensor], least: int = 1 << 20) -> Iterator[Tensor]:
    """Join chunks of few activations: bins come into the cache once for all of them."""
    waiting: list[Tensor] = []
    for x in chunks:
        if waiting and (waiting[0].shape[1:] != x.shape[1:] or sum(w.numel() for w in waiting) >= least):
            yield torch.cat(waiting) if len(waiting) > 1 else waiting[0]
            waiting = []
        waiting.append(x)
    if waiting:
        yield torch.cat(waiting) if len(waiting) > 1 else waiting[0]


def histogram(chunks: Iterable[Tensor], maximum: Tensor, channelwise: bool, bins: int = BINS) -> Histogram:
    """Return the histogram of activations, given the maximum of each row over all processes.

    Args:
        chunks: activations `[N, C, ...]`.
        maximum: `[R]`, from `row_maximum`.
        channelwise: a row a channel, or one row.
        bins: number of bins between 0 and the maximum.

    Example:
        >>> chunks = [torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, -4.0]])]
        >>> counts = histogram(chunks, row_maximum(chunks, channelwise=True), channelwise=True)
        >>> counts.count.sum(1)  # -4 is not positive
        tensor([2., 1.], dtype=torch.float64)
    """
    size, device = maximum.numel(), maximum.device
    table = torch.zeros(size, bins, 2, dtype=torch.float64, device=device)
    second, total = (torch.zeros(size, dtype=torch.float64, device=device) for _ in range(2))
    scale = torch.where(maximum > 0, bins / maximum.clamp(min=torch.finfo(maximum.dtype).tiny), 0.0)
    for x in _joined(chunks):
        squares = kernels.maxima_and_squares(x)[1]
        second += squares if channelwise else squares.sum()
        total += x.numel() // size
        line = torch.arange(x.shape[1], dtype=torch.int32, device=device) * int(channelwise)
        kernels.histogram(x, line, scale.expand(x.shape[1]), table)
    kernels.cumulate(table)
    return Histogram(maximum, table, second, total)
