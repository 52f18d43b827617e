"""What a calibration does, as the plain numbers that its cost follows from."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What is to be done, as plain numbers.

    Args:
        images: of the calibration set, over all processes.
        timesteps: T.
        corrected: images that the steps simulate, counted again in each step and repeat; 0 without any.
        iterations: SGD steps a stage; 0 without weight calibration.
        batch_size: images an SGD step, over all processes.
        power_iterations: of the curvature estimate before the SGD; 0 with a learning rate given.
        solutions: least squares solutions a stage; 0 without weights in closed form.
        solved: images that each solution is of.
        distilled: images that all steps of the distillation run through, one after the other; 0 without it.
        distilled_steps: how many steps these are.
        readout: whether the readout is calibrated too.
        budget: memory of the sweep's cache in bytes, None for no limit.
        processes: among which the images are shared out.
        spike_bits: bits of a packed spike, of a neuron and time step.
        simulated: time steps of a window that are simulated; None for T.
        searched: images on which only the neurons run once more, counted for each candidate of a search.
        originals: images before augmentation, which each process keeps for the new copies that a distillation
            takes; 0 without augmentation.
    """

    images: int
    timesteps: int
    corrected: int = 0
    iterations: int = 0
    batch_size: int = 32
    power_iterations: int = 0
    solutions: int = 0
    solved: int = 0
    distilled: int = 0
    distilled_steps: int = 0
    readout: bool = True
    budget: float | None = None
    processes: int = 1
    spike_bits: int = 1
    searched: int = 0
    originals: int = 0
    simulated: int | None = None

    @property
    def steps(self) -> int:
        """Time steps of a window that are simulated."""
        return self.simulated or self.timesteps

    def share(self, images: int) -> int:
        """Return the largest share of `images` that a process has."""
        return -(-images // self.processes)

    @property
    def largest_batch(self) -> float:
        """Images that the busiest process has of a mini-batch, on average over the SGD steps.

        Each process works on those of its images that are in the mini-batch; all wait for the one with most
        of them. Shares are equal where one number divides the other, see `mini_batches`; else they are as if
        drawn.
        """
        if self.batch_size % self.processes == 0 or self.processes % self.batch_size == 0:
            return float(-(-self.batch_size // self.processes))
        p, expected, below, term = 1 / self.processes, 0.0, 0.0, 0.0
        for k in range(self.batch_size):
            term = math.comb(self.batch_size, k) * p**k * (1 - p) ** (self.batch_size - k)
            below = min(1.0, below + term)
            expected += 1 - below**self.processes
        return expected
