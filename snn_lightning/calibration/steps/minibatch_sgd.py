"""Gradient descent in mini-batches of the calibration images, the same on any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.errors import CalibrationError

LossAndGradients = Callable[[Tensor], Iterator[tuple[Tensor, Sequence[Tensor]]]]
"""From the rows of this process's images in a mini-batch, on the CPU: parts of the loss and of the gradients,
which add up to its share."""


def gradients(output: Tensor, parameters: Sequence[Tensor], weight: Tensor | None = None) -> list[Tensor]:
    """Return the gradients of `output`, times `weight`; zero where an operator passes none on.

    Args:
        output: a loss, or anything else with `weight`.
        parameters: that may be behind it.
        weight: of the output's shape.
    """
    if not output.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    return list(torch.autograd.grad(output, parameters, weight, allow_unused=True, materialize_grads=True))


class MinibatchDescent:
    """Steps of optimizers with cosine decay; every process works on its share of each mini-batch.

    Args:
        optimizers: of the parameters, each of its own ones; their gradients come in this order.
        loss_and_gradients: divided by the whole mini-batch's size.
        name: of the loss, and of the setting that makes the steps smaller, for messages.
        communicator: connects the processes.
        seed: of the order of the images.
        report: called now and then with (iteration, iterations, loss).
        after: called after each step.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        loss_and_gradients: LossAndGradients,
        name: tuple[str, str],
        communicator: Communicator,
        seed: int,
        report: Callable[[int, int, float], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.optimizers, self.loss_and_gradients, self.name = optimizers, loss_and_gradients, name
        self.communicator, self.seed, self.report, self.after = communicator, seed, report, after
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.parameters: list[Tensor] = [p for group in groups for p in group["params"]]

    def run(self, iterations: int, batch: int, count: int) -> list[tuple[int, float]]:
        """Run all iterations on the first `count` images; returns some twenty (iteration, loss) pairs."""
        generator = torch.Generator().manual_seed(self.seed)
        schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(o, iterations) for o in self.optimizers]
        losses, batches = [], mini_batches(count, batch, generator)
        failure: Exception | None = None
        every = max(1, iterations // 20)
        for iteration in range(iterations):
            loss, failed, failure = self._gradients(own_rows(next(batches), self.communicator), failure)
            for optimizer, scheduler in zip(self.optimizers, schedulers, strict=True):
                optimizer.step()
                scheduler.step()
            self.after()
            # Only now and then, and all at the same time: looking at a number waits for the device.
            if iteration % every == 0 or iteration == iterations - 1:
                self._raise_failures(failed, failure)
                losses.append((iteration, self._finite(loss)))
                try:
                    self.report(iteration + 1, iterations, losses[-1][1])
                except Exception as error:
                    # The others are on their way into the next step, and hear of it there.
                    failure = error
        if failure is not None:
            raise failure
        return losses

    def _gradients(self, rows: Tensor, failure: Exception | None) -> tuple[Tensor, Tensor, Exception | None]:
        """Put the gradients of the mini-batch's loss, over all processes, into the parameters.

        A failure of this process, now or before, is told to the others with the gradients: one reduction a
        step.

        Returns:
            The loss, how many processes have failed, both still on the device, and this process's failure.
        """
        like, sizes = self.parameters[0], [p.numel() for p in self.parameters]
        flat = torch.zeros(sum(sizes) + 2, dtype=like.dtype, device=like.device)
        try:
            if failure is not None:
                raise failure
            for loss, gradients in self.loss_and_gradients(rows):
                flat[:-1] += torch.cat([*(g.reshape(-1) for g in gradients), loss.detach()[None]])
        except Exception as error:
            flat.zero_()
            flat[-1], failure = 1.0, error
        flat = self.communicator.sum_unchecked(flat)
        for parameter, part in zip(self.parameters, flat[:-2].split(sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        return flat[-2], flat[-1], failure

    def _raise_failures(self, failed: Tensor, failure: Exception | None) -> None:
        if failure is not None:
            raise failure
        if self.communicator.world_size > 1 and failed > 0:
            # Raises what the process that failed has to say.
            self.communicator.barrier()

    def _finite(self, loss: Tensor) -> float:
        value = loss.item()
        if value != value or value == float("inf"):
            name, setting = self.name
            raise CalibrationError(f"The {name} is not finite: lower {setting}.")
        return value


def mini_batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield mini-batches of `batch` of `count` images without end, anew in random order each epoch.

    No image comes twice in an epoch; what does not fill a mini-batch is left out of it. Each mini-batch has
    an image of every remainder modulo `batch`. Process r of P holds the images of remainder r modulo P: all
    have equal shares of every mini-batch where P divides `batch`, and none waits for another.
    """
    remainders = torch.arange(batch)
    while True:
        sizes = [-(-(count - r) // batch) for r in range(batch)]
        orders = [torch.randperm(size, generator=generator)[: count // batch] for size in sizes]
        yield from torch.stack(orders, 1) * batch + remainders


def own_rows(chosen: Tensor, communicator: Communicator) -> Tensor:
    """Return the rows of this process that hold the images `chosen` of the whole set."""
    mine = chosen[chosen % communicator.world_size == communicator.rank]
    return torch.div(mine, communicator.world_size, rounding_mode="floor")
