"""How long a calibration still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from snn_lightning.analysis.cost.operations import estimate_cost
from snn_lightning.analysis.cost.timing import NOMINAL, estimate_seconds
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.graph.network import StageNetwork


@dataclass(frozen=True)
class StageCosts:
    """What the stages cost in relation to each other, in any unit.

    Args:
        stages: cost of each stage, and of the steps on the whole network after them.
        sgd: the part of each that is SGD.
    """

    stages: Sequence[float]
    sgd: Sequence[float]

    @classmethod
    def modelled(cls, network: StageNetwork, sample: Tensor, work: Work) -> StageCosts:
        """Return what the cost model says.

        Args:
            network: the prepared ANN.
            sample: inputs `[N, ...]` on its device.
            work: what is to be done.
        """
        cost = estimate_cost(network, sample.shape[1:], work)
        seconds = estimate_seconds(cost, NOMINAL.get(sample.device.type, NOMINAL["cuda"]).prices(cost))
        last = [seconds.distillation] if work.distilled else []
        return cls([*seconds.stages, *last], [*seconds.weights, *last])


class TimeLeft:
    """Estimates how long the remaining stages will take, from the modelled costs and the time so far.

    Args:
        costs: of the stages.
        clock: gives seconds.
    """

    def __init__(self, costs: StageCosts, clock: Callable[[], float] = time.monotonic) -> None:
        self.costs, self.clock = costs, clock
        self.total = sum(costs.stages)
        self.started = self.updated = clock()
        self.skipped = self.done = self.later = 0.0

    def restart(self, index: int) -> None:
        """Take stage `index` as the first whose time counts: those before it were calibrated earlier."""
        self.reached(index)
        self.skipped, self.started = self.done, self.updated

    def reached(self, index: int, sgd: float = 0.0) -> None:
        """Note that all stages before `index` are done, and the fraction `sgd` of its SGD."""
        before = sum(self.costs.stages[:index])
        self.done = before + sgd * sum(self.costs.sgd[index : index + 1])
        self.later = self.total - before - sum(self.costs.stages[index : index + 1])
        self.updated = self.clock()

    @property
    def seconds(self) -> float | None:
        """Seconds left; None before anything is known.

        `(time so far) * (cost left) / (cost so far)` at the last update, less what has passed since, but no
        less than what the stages after the present one will take.
        """
        if self.done <= self.skipped:
            return None
        rate = (self.updated - self.started) / (self.done - self.skipped)
        return max(rate * self.later, rate * (self.total - self.done) - (self.clock() - self.updated))
