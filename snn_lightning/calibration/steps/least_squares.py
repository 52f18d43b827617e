"""Weight calibration in closed form: the least squares solution of a stage's synapses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.steps.held_out import go_back
from snn_lightning.calibration.steps.ridge import RidgeProblem
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.graph.ir import Stage, readers
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import CONVOLUTIONS, Add, groups_of, traits_of
from snn_lightning.graph.precision import float32_products
from snn_lightning.settings import check_positive, check_whole
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.units import Readout

LARGEST = 16384
"""Columns of a Gram matrix that fits into 2 GB; synapses with more inputs are left as they are."""


@dataclass(frozen=True)
class SynapseSum:
    """Synapses of a stage whose outputs are added up, and nothing else done with them before.

    Args:
        point: name of the value that is their sum, perhaps with other terms; of the synapse itself if it
            stands alone.
        synapses: their names; all with the same number of groups.
    """

    point: str
    synapses: tuple[str, ...]


def synapse_sums(network: StageNetwork, stage: Stage, shapes: Mapping[str, torch.Size]) -> list[SynapseSum]:
    """Return the sums of convolutions and linear layers in a stage, earlier ones first.

    Args:
        network: the stage's network.
        stage: the stage.
        shapes: of the operators' values.
    """
    read_by = readers(network.nodes)
    sums: dict[tuple[str, int], list[str]] = {}
    for name in stage.operators:
        module = network.operators[name]
        if not isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            continue
        point = name
        while point != stage.current and len(read_by[point]) == 1:
            (reader,) = read_by[point]
            add = network.operators[reader] if reader in stage.operators else None
            if point in stage.exports or not isinstance(add, Add):
                break
            if add.alpha != 1 or shapes[reader] != shapes[name]:
                break
            point = reader
        sums.setdefault((point, groups_of(module)), []).append(name)
    order = sorted(sums, key=lambda key: stage.operators.index(key[0]))
    return [SynapseSum(key[0], tuple(sums[key])) for key in order]


@register_step
@dataclass(frozen=True)
class LeastSquares(Step):
    """Weight calibration in closed form: `argmin_W ||y - (W rate + b)||^2 + ridge ||W - W_ann||^2`.

    y is the ANN's value that the synapses, all of a sum jointly, are to give, `rate` the SNN's mean input;
    then the same with both sides clipped to the rates that the neuron can have. It takes the place of
    `Weights`, whose loss (PC eq. 23) it minimises but for the rounding.

    Args:
        ridge: pull towards the weights of the ANN, in units of the mean of the Gram matrix's diagonal; None
            chooses it for each sum by the held-out images, and takes 0.1 where there are none.
        iterations: solutions in all; those after the first are of the clipped form. Each runs over the
            images once, and only the first makes the Gram matrix.
        images: how many calibration images it uses; None for all. Held-out ones are never fitted to.

    Example:
        >>> from snn_lightning import ACP, calibrate
        >>> ann, loader = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), [torch.rand(8, 2)]
        >>> pipeline = ACP(timesteps=4, weights=LeastSquares(ridge=0.2))
        >>> snn = calibrate(ann, loader, pipeline, progress=False)
        >>> list(snn.records[0]["steps"])
        ['threshold', 'least_squares', 'potential']
    """

    holds_out = True
    ridge: float | None = None
    iterations: int = 4
    images: int | None = None

    def __post_init__(self) -> None:
        check_positive("weights.ridge", self.ridge, optional=True)
        check_whole("weights.iterations", self.iterations)
        check_whole("weights.images", self.images, optional=True)

    def add_work(self, work: Work) -> Work:
        """Count the solutions."""
        solved = self.images or work.images
        return replace(work, solutions=work.solutions + self.iterations, solved=solved)

    @float32_products("float32")  # Of the Gram matrix; the synapses have their own.
    def run(self, context: StageContext) -> StepReport:
        """Solve for the weights of every sum of synapses in the stage, the ANN's value there as target.

        The sum that is the unit's current is then solved again for what the unit can show of it: with both
        currents clipped to `[0, largest rate]`, a majorisation whose quadratic form stays the same. Weights
        that end up worse than they were are put back.
        """
        with context.remembering():
            report = _solve(self, context)
        context.forget_currents()
        return report


def _solve(settings: LeastSquares, context: StageContext) -> StepReport:
    network, stage, unit = context.snn.network, context.stage, cast("IFNeuron | Readout", context.unit)
    shapes = {key: value.shape for key, value in context.mean_values(0).items()}
    sums = synapse_sums(network, stage, shapes)
    problems = {
        part: RidgeProblem(network, part.synapses, unit if part.point == stage.current else None)
        for part in sums
        if _width(network, part) <= LARGEST
    }
    left = sum(traits_of(network.operators[name]).weighted for name in stage.operators)
    left -= sum(len(part.synapses) for part in problems)
    if not problems:
        return StepReport(float("nan"), details={"left": float(left)})
    kept = {name: value.clone() for name, value in _state(context).items()}
    before = _expected_error(context)
    offset = unit.bias
    for part, problem in problems.items():
        _fit(problem, part.point, offset, settings, context)
    parameters = [*_state(context).values(), unit.bias]
    old = [*kept.values(), offset]
    share, after = go_back(parameters, old, lambda: _expected_error(context), before, context.holds_out)
    return StepReport(before, after, {"kept": share, "left": float(left)})


def _fit(
    problem: RidgeProblem, point: str, offset: Tensor, settings: LeastSquares, context: StageContext
) -> None:
    """Change the synapses whose sum is at `point`; `offset` is what the unit's bias was at first."""
    unit = context.unit
    last = point == context.stage.current and isinstance(unit, IFNeuron)
    for iteration in range(settings.iterations if last else 1):
        for i, inside in context.chunks(settings.images):
            target, values = context.ann_value(point, i), context.mean_values(i)
            present = values[point]
            if last:
                present = present + per_channel(cast(IFNeuron, unit).bias - offset, present)
            if iteration > 0:
                target, present = (_shown(y, cast(IFNeuron, unit)) for y in (target, present))
            residual, number = target - present, context.indices[i][:inside]
            for held_out, rows in ((False, number < context.fitted), (True, number >= context.fitted)):
                if rows.any():
                    read = {key: x[:inside][rows] for key, x in values.items()}
                    problem.add(read, residual[:inside][rows], held_out)
        problem.solve(settings.ridge, context.communicator)


def _shown(current: Tensor, unit: IFNeuron) -> Tensor:
    """Clip mean currents to the rates that the unit can have."""
    largest = per_channel(unit.v_th * unit.highest, current)
    return torch.minimum(current.clamp(min=0), largest)


def _expected_error(context: StageContext) -> float:
    """Return the relative error of the expected rate on the images that choose."""
    error, unit = RelativeError(context.device), cast("IFNeuron | Readout", context.unit)
    for i in range(len(context.indices)):
        rate = unit.expected_rate(context.mean_values(i)[context.stage.current], context.timesteps)
        deciding = context.indices[i] >= context.deciding
        error.add(context.activations[i].get()[deciding], rate[deciding])
    return error.value(context.communicator)


def _width(network: StageNetwork, part: SynapseSum) -> int:
    weights = (cast(Tensor, network.operators[name].weight) for name in part.synapses)
    return sum(math.prod(w.shape[1:]) for w in weights)


def _state(context: StageContext) -> dict[str, Tensor]:
    """Return the parameters of the stage's operators, without gradients, by name."""
    operators = {name: context.snn.network.operators[name] for name in context.stage.operators}
    return {
        f"{name}.{key}": value.detach()
        for name, module in operators.items()
        for key, value in module.named_parameters()
    }
