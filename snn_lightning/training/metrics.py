"""Metrics of spiking networks."""

import torch
from torch import Tensor
from torchmetrics import Metric


class AccuracyOverTime(Metric):
    """The fraction of images classified correctly if the simulation were stopped after each time step.

    Args:
        timesteps: T.

    Example:
        >>> metric = AccuracyOverTime(timesteps=2)
        >>> metric.update(torch.tensor([[[1.0, 0.0]], [[0.2, 0.4]]]), torch.tensor([1]))
        >>> metric.compute().tolist()  # wrong after one time step, right after two
        [0.0, 1.0]
    """

    full_state_update = False
    higher_is_better = True
    correct: Tensor
    total: Tensor

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.add_state("correct", torch.zeros(timesteps, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, readout: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            readout: running mean of the readout after each time step, `[T, N, classes]`.
            target: labels, `[N]`.
        """
        if readout.ndim != 3 or len(readout) != self.timesteps:
            raise ValueError(f"expected a readout [{self.timesteps}, N, classes], got {tuple(readout.shape)}")
        self.correct += (readout.argmax(-1) == target).sum(1)
        self.total += len(target)

    def compute(self) -> Tensor:
        """The accuracy after t = 1…T time steps, `[T]`, as fractions."""
        return self.correct.double() / self.total
