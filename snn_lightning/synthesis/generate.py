"""A batch of images, optimised from noise until networks see in it what they saw in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from snn_lightning.errors import CalibrationError, SettingsError, few
from snn_lightning.graph.capture.trace import copied, unwrap
from snn_lightning.graph.precision import own_precision
from snn_lightning.synthesis import losses
from snn_lightning.synthesis.settings import Synthesis
from snn_lightning.synthesis.statistics import ActivationStatistics, channel_dim, watched

SMALLEST = 32
"""Pixels of a side below which images don't start automatically."""
VARIED = 0.75
"""The part of the iterations, at each size, in which images are mixed, shifted and mirrored."""


class Source(nn.Module):
    """A network that images are made of, frozen in a copy, and what its activations shall be like.

    Args:
        ann: left as it is.
        statistics: of its layers; None: of its batch norms.

    Raises:
        CalibrationError: it has no batch norm, and no statistics are given.
        CheckpointError: the statistics are of another network.

    Example:
        >>> distance, features = Source(nn.BatchNorm2d(2))(torch.zeros(4, 2, 8, 8))
        >>> round(distance.item(), 2), features.shape  # means are right, deviations are 0 and not 1
        (1.0, torch.Size([4, 2]))
    """

    @torch.inference_mode(False)
    def __init__(self, ann: nn.Module, statistics: ActivationStatistics | None = None) -> None:
        super().__init__()
        ann = unwrap(ann)
        self.title = type(ann).__name__
        self.statistics = statistics or ActivationStatistics.of_batch_norms(ann)
        self.statistics.check(ann)
        self.network = copied(ann).float().eval().requires_grad_(False)
        for i, pair in enumerate(self.statistics.layers.values()):
            for what, part in zip(("mean", "variance"), pair, strict=True):
                self.register_buffer(f"{what}_{i}", part.float(), persistent=False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far the statistics are from those wanted, and each image's features in the last layer.

        Args:
            inputs: normalised images, `[N, C, H, W]`.

        Raises:
            CalibrationError: the network calls none of the layers, or gives NaN.
        """
        with watched(self.network, self.statistics.layers) as seen:
            self.network(inputs)
        if not seen:
            raise CalibrationError(
                f"{self.title} calls none of the layers whose statistics are to be matched: "
                f"{few(list(self.statistics.layers))}."
            )
        terms = []
        order = list(self.statistics.layers)
        for name, parts in seen.items():
            dim, i = channel_dim(self.network.get_submodule(name)), order.index(name)
            wanted = self.get_buffer(f"mean_{i}"), self.get_buffer(f"variance_{i}")
            terms.append(losses.matching(*losses.moments(parts, dim), *wanted))
        distances = torch.stack(terms)
        if not distances.isfinite().all():
            bad = [
                name for name, finite in zip(seen, distances.isfinite().tolist(), strict=True) if not finite
            ]
            raise CalibrationError(
                f"{self.title} gives NaN or infinite values at {few(bad)}: check that its trained weights "
                "are loaded and finite; if it happens after some iterations, lower synthesis.learning_rate."
            )
        last = seen[next(reversed(seen))][-1].movedim(dim, 1)
        return distances.mean(), last.flatten(2).mean(2) if last.dim() > 2 else last


@dataclass(frozen=True)
class Synthesiser:
    """Makes batches of images, each by itself: a batch depends on its number alone, not on who makes it.

    Args:
        sources: the networks.
        settings: how.
        shape: of an image, `(C, H, W)`.
        mean: of the normalisation in front of the networks, `[C, 1, 1]`.
        std: of the normalisation, `[C, 1, 1]`.

    Example:
        >>> source, mean, std = Source(nn.BatchNorm2d(1)), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        >>> synthesiser = Synthesiser([source], Synthesis(2), (1, 8, 8), mean, std)
        >>> synthesiser.generate(3, index=0).shape
        torch.Size([3, 1, 8, 8])
    """

    sources: Sequence[Source]
    settings: Synthesis
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor

    def phases(self) -> list[tuple[tuple[int, int], int]]:
        """Return the sizes `(H, W)` of the images, one after the other, and how many iterations each has."""
        full = self.shape[1:]
        start = self._start()
        first = round(self.settings.iterations * self.settings.start_part)
        if start == full or first == 0:
            return [(full, self.settings.iterations)]
        return [(start, first), (full, self.settings.iterations - first)]

    def generate(self, count: int, index: int, on_iteration: Callable[[], None] = lambda: None) -> Tensor:
        """Return a batch of images.

        Args:
            count: images in it.
            index: number of the batch: batches of other numbers are others.
            on_iteration: called after each iteration.

        Returns:
            Pixels `[count, C, H, W]`, uint8, on the CPU.

        Raises:
            CalibrationError: a network gives NaN, or the memory doesn't suffice.
        """
        generator = torch.Generator().manual_seed(hash_of(self.settings.seed, index))
        with self.optimising():
            phases = self.phases()
            images = noise((count, self.shape[0], *phases[0][0]), generator).to(self.mean.device)
            for size, iterations in phases:
                if images.shape[2:] != size:
                    images = interpolate(images, size=size, mode="bilinear", align_corners=False)
                images = self._optimise(images, iterations, generator, on_iteration)
        return (images * 255).round().to("cpu", torch.uint8)

    def loss(self, images: Tensor) -> Tensor:
        """Return what is minimised, of images `[N, C, H, W]` in 0…1."""
        settings = self.settings
        loss = settings.total_variation * losses.total_variation(images) + settings.l2 * losses.to_grey(
            images
        )
        inputs = (images - self.mean) / self.std
        for source in self.sources:
            distance, features = source(inputs)
            loss = loss + (distance + settings.diversity * losses.similarity(features)) / len(self.sources)
        return loss

    def _optimise(
        self, images: Tensor, iterations: int, generator: torch.Generator, on_iteration: Callable[[], None]
    ) -> Tensor:
        images = images.detach().clamp(0, 1).requires_grad_()
        adam = torch.optim.Adam([images], lr=self.settings.learning_rate, betas=(0.5, 0.9))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            adam, lambda step: (1 + math.cos(math.pi * step / iterations)) / 2
        )
        for iteration in range(iterations):
            adam.zero_grad()
            # At last they are matched as they are.
            varied = self._varied(images, generator) if iteration < VARIED * iterations else images
            self.loss(varied).backward()
            adam.step()
            schedule.step()
            with torch.no_grad():
                images.clamp_(0, 1)
            on_iteration()
        return images.detach()

    def _varied(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images as the networks see them in an iteration: mixed, shifted, mirrored."""
        draws = torch.rand(4, generator=generator).tolist()
        if draws[0] < self.settings.mix:
            images = losses.mixed(images, generator)
        reach = 2 * self.settings.shift + 1
        by = [int(draw * reach) - self.settings.shift for draw in draws[1:3]]
        if any(by):
            images = images.roll(by, (2, 3))
        return images.flip(3) if self.settings.flip and draws[3] < 0.5 else images

    def _start(self) -> tuple[int, int]:
        full = self.shape[1:]
        side = self.settings.start_size
        if side is None:
            half = (-(-full[0] // 2), -(-full[1] // 2))
            return half if min(half) >= SMALLEST and self._runs(half) is None else full
        if side >= min(full):
            return full
        start = (round(full[0] * side / min(full)), round(full[1] * side / min(full)))
        if (error := self._runs(start)) is not None:
            raise SettingsError(
                f"synthesis.start_size={side}: a network can't be run on images of {start[0]}x{start[1]} "
                f"({error}); leave it out, or choose a larger one."
            ) from error
        return start

    def _runs(self, size: tuple[int, int]) -> Exception | None:
        """Return why a network can't be run on images of a size, or None."""
        image = self.mean.new_zeros((2, self.shape[0], *size))
        try:
            with torch.no_grad():
                for source in self.sources:
                    source.network(image)
        except Exception as error:  # whatever the user's own code raises
            return error
        return None

    @contextmanager
    def optimising(self) -> Iterator[None]:
        """Let gradients be taken, and say what to do where the memory doesn't suffice.

        Raises:
            CalibrationError: it doesn't.
        """
        try:
            device = self.mean.device
            with torch.inference_mode(False), torch.enable_grad(), own_precision("float32", device):
                yield
        except (RuntimeError, MemoryError) as error:
            told = any(words in str(error) for words in ("out of memory", "not enough memory"))
            if not told and not isinstance(error, torch.OutOfMemoryError | MemoryError):
                raise
            raise CalibrationError(
                f"The memory doesn't suffice for {self.settings.batch_size} images of "
                f"{self.shape[1]}x{self.shape[2]} at once: lower synthesis.batch_size, or make "
                "smaller images."
            ) from error


def hash_of(seed: int, index: int) -> int:
    """Return a seed that differs between batches, and between those of neighbouring seeds."""
    return (seed * 1_000_003 + index * 7_919) % 2**63


def noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return noise as images are: more of it in coarser scales, and more of it grey than coloured.

    Args:
        shape: `[N, C, H, W]`.
        generator: on the CPU.

    Returns:
        Values about 0.5, with a deviation of about 0.2.
    """
    n, channels, height, width = shape
    total = torch.zeros(n, channels, height, width)
    scale = 1
    while scale < min(height, width):
        shape = (n, 1 + channels, -(-height // scale), -(-width // scale))
        grey, colour = torch.randn(shape, generator=generator).split((1, channels), 1)
        coarse = 0.9 * grey + 0.4 * colour
        size = (coarse.shape[2] * scale, coarse.shape[3] * scale)
        total += scale**0.5 * interpolate(coarse, size=size, mode="bilinear")[..., :height, :width]
        scale *= 2
    return (0.5 + 0.2 * total / total.std()).clamp(0, 1)
