"""What a synthesis will cost, from one iteration of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_lightning.synthesis.generate import Synthesiser, noise


@dataclass(frozen=True)
class Estimate:
    """What a batch of images will cost.

    Args:
        seconds: of one batch, on this device.
        activations: bytes that autograd keeps during an iteration; gradients come on top.

    Example:
        >>> str(Estimate(seconds=90, activations=3 * 2**20))
        '90 s and 3 MiB of activations a batch (measured: one iteration)'
    """

    seconds: float
    activations: int

    def __str__(self) -> str:
        size = f"{self.activations / 2**20:.3g} MiB of activations"
        return f"{self.seconds:.3g} s and {size} a batch (measured: one iteration)"


def estimate(synthesiser: Synthesiser, count: int) -> Estimate:
    """Measure one iteration at the final size; at another size time goes with the number of pixels.

    Args:
        synthesiser: what will make the images.
        count: images in a batch.

    Raises:
        CalibrationError: a network gives NaN, or the memory doesn't suffice.

    Example:
        >>> from snn_lightning.synthesis import Source, Synthesis
        >>> source = Source(torch.nn.BatchNorm2d(1))
        >>> mean, std = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        >>> estimate(Synthesiser([source], Synthesis(), (1, 8, 8), mean, std), 2).activations > 2 * 64 * 4
        True
    """
    storages: dict[int, int] = {}
    own = {parameter.data_ptr() for source in synthesiser.sources for parameter in source.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    shape = (count, *synthesiser.shape)
    with synthesiser.optimising(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        images = noise(shape, torch.Generator().manual_seed(0)).to(synthesiser.mean.device).requires_grad_()
        start = time.perf_counter()
        (gradient,) = torch.autograd.grad(synthesiser.loss(images), images)
        _ = gradient.sum().item()  # an accelerator may still be at it
        seconds = time.perf_counter() - start
    height, width = synthesiser.shape[1:]
    iterations = sum(h * w * number / (height * width) for (h, w), number in synthesiser.phases())
    return Estimate(seconds * iterations, sum(storages.values()))
