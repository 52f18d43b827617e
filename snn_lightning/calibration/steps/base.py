"""What every calibration step is: settings, what it does with them, and what that costs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import chain, count
from typing import Any, ClassVar

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.walk.context import StageContext, StepReport
from snn_lightning.calibration.walk.network_context import NetworkContext
from snn_lightning.plugins import Registry


class AnyStep(ABC):
    """What steps in each stage and steps on the whole network have in common.

    Attributes:
        needs_surrogate: whether gradients must pass the neurons.
        holds_out: whether it fits so much that held-out images must say how far.
    """

    needs_surrogate: ClassVar[bool] = False
    holds_out: ClassVar[bool] = False

    def add_work(self, work: Work) -> Work:
        """Return `work` and what this step adds to it, for the cost model; by default nothing.

        Args:
            work: the calibration's numbers, and what the steps before this one do.
        """
        return work

    @abstractmethod
    def run(self, context: Any) -> StepReport:
        """Calibrate."""


class Step(AnyStep):
    """Base of every step in a stage; a frozen dataclass of its settings.

    Example:
        >>> class HalfBias(Step):
        ...     def run(self, context):
        ...         context.unit.bias = context.unit.bias / 2
        ...         return StepReport(before=float("nan"))
        >>> record_keys([HalfBias()])
        ['half_bias']
    """

    @abstractmethod
    def run(self, context: StageContext) -> StepReport:
        """Calibrate the stage."""


class FinalStep(AnyStep):
    """Base of every step on the whole network after the walk; a frozen dataclass of its settings.

    Example:
        >>> class HalfTheThresholds(FinalStep):
        ...     def run(self, context):
        ...         for neuron in context.snn.neurons.values():
        ...             neuron.v_th = neuron.v_th / 2
        ...         return StepReport(before=float("nan"))
        >>> HalfTheThresholds().needs_surrogate
        False
    """

    @abstractmethod
    def run(self, context: NetworkContext) -> StepReport:
        """Calibrate the network."""


STEPS: Registry[type[AnyStep]] = Registry("step")
register_step = STEPS.register


def record_keys(steps: Iterable[AnyStep]) -> list[str]:
    """Return under which key a record keeps each step: its class in snake case, and a number from the second.

    Args:
        steps: of a pipeline, in their order.

    Example:
        >>> from snn_lightning import Bias, LeastSquares
        >>> record_keys([LeastSquares(), Bias(), Bias()])
        ['least_squares', 'bias', 'bias_2']
    """
    keys = ["threshold"]
    for step in steps:
        name = re.sub("(?<=[a-z])(?=[A-Z])", "_", type(step).__name__).lower()
        numbered = (f"{name}_{number}" for number in count(2))
        keys.append(next(key for key in chain([name], numbered) if key not in keys))
    return keys[1:]
