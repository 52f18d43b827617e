"""Histograms of activations that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 4096


@dataclass(frozen=True)
class Histogram:
    """Distribution of non-negative activations, a row a channel (or one row for the layer).

    Args:
        maximum: largest activation of each row, `[R]`, activation units; 0 for a row that is never positive.
        count: positive activations in each bin of width `maximum / BINS`, `[R, BINS]`, float64.
        first: their sum, `[R, BINS]`, float64.
        second: sum of squares of each row, `[R]`, float64.
        total: all activations of each row, zeros included, `[R]`, float64.
    """

    maximum: Tensor
    count: Tensor
    first: Tensor
    second: Tensor
    total: Tensor

    def parts(self) -> tuple[Tensor, ...]:
        """Return what adds up over batches and processes."""
        return self.count, self.first, self.second, self.total


def rows(x: Tensor, channelwise: bool) -> Tensor:
    """Return activations `[N, C, ...]` as `[C, M]`, or as `[1, M]` for a whole layer."""
    return x.transpose(0, 1).flatten(1) if channelwise else x.reshape(1, -1)


def row_maximum(chunks: Iterable[Tensor], channelwise: bool) -> Tensor:
    """Return the largest activation of each row, `[R]`, never below 0."""
    maxima = [rows(x, channelwise).amax(1) for x in chunks]
    return torch.stack(maxima).amax(0).clamp(min=0)


def histogram(chunks: Iterable[Tensor], maximum: Tensor, channelwise: bool, bins: int = BINS) -> Histogram:
    """Return the histogram of activations, given the maximum of each row over all processes.

    Args:
        chunks: activations `[N, C, ...]`.
        maximum: `[R]`, from `row_maximum`.
        channelwise: a row a channel, or one row.
        bins: number of bins between 0 and the maximum.
    """
    size = maximum.numel()
    device = maximum.device
    count = torch.zeros(size * bins, dtype=torch.float64, device=device)
    first = torch.zeros_like(count)
    second, total = (torch.zeros(size, dtype=torch.float64, device=device) for _ in range(2))
    scale = torch.where(maximum > 0, bins / maximum.clamp(min=torch.finfo(maximum.dtype).tiny), 0.0)
    for chunk in chunks:
        x = rows(chunk, channelwise)
        total += x.shape[1]
        index = (x * scale[:, None]).long().clamp_(0, bins - 1)
        index += torch.arange(size, device=device)[:, None] * bins
        positive = x > 0
        values = x[positive].double()
        index = index[positive]
        count += torch.bincount(index, minlength=size * bins)
        first += torch.bincount(index, weights=values, minlength=size * bins)
        second += x.double().square().sum(1)
    return Histogram(maximum, count.view(size, bins), first.view(size, bins), second, total)
