"""Weight calibration in closed form: the least squares solution of a stage's synapses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.steps.base import Step, register_step
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.context import RelativeError, StageContext, StepReport
from snn_lightning.errors import CalibrationError
from snn_lightning.graph.ir import Stage, readers
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import CONVOLUTIONS, Add, traits_of
from snn_lightning.graph.pointwise import overruns, strided
from snn_lightning.graph.precision import float32_products
from snn_lightning.settings import check_positive, check_whole
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.units import Readout

LARGEST = 16384
"""Columns of a Gram matrix that fits into 2 GB; synapses with more inputs are left as they are."""
CONVOLUTION_WEIGHTS = (conv1d_weight, conv2d_weight, conv3d_weight)
DESIGN_NUMBERS = 1 << 26
"""Numbers of the design matrix that are laid out at once."""


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
        sums.setdefault((point, _groups(module)), []).append(name)
    order = sorted(sums, key=lambda key: stage.operators.index(key[0]))
    return [SynapseSum(key[0], tuple(sums[key])) for key in order]


def columns(synapse: nn.Module, x: Tensor) -> Tensor:
    """Return what each output position of a convolution or linear layer reads.

    Args:
        synapse: with `groups` g; a linear layer has one.
        x: its input `[n, C, ...]`.

    Returns:
        `[g, n * positions, C / g * kernel]`, in the order of the flattened weight.
    """
    if isinstance(synapse, nn.Linear):
        return x.flatten(0, -2)[None]
    assert isinstance(synapse, CONVOLUTIONS)
    x = _padded(synapse, x)
    kernel, stride, dilation = synapse.kernel_size, synapse.stride, synapse.dilation
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    slices = []
    for offset in itertools.product(*(range(k) for k in kernel)):
        places = (
            slice(o * d, o * d + (size - 1) * s + 1, s)
            for o, d, size, s in zip(offset, dilation, sizes, stride, strict=True)
        )
        slices.append(x[(slice(None), slice(None), *places)].flatten(2))
    # [n, C, kernel, positions] -> [g, n, positions, C / g, kernel]
    patches = torch.stack(slices, 2).unflatten(1, (synapse.groups, -1)).permute(1, 0, 4, 2, 3)
    return patches.flatten(3).flatten(1, 2)


def weight_moment(synapse: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """Return `columns(x)^T r`, the gradient of the weight, without laying the columns out.

    Args:
        synapse: a convolution or linear layer.
        x: its input `[n, C, ...]`.
        residual: r at its output, `[n, O, ...]`.

    Returns:
        `[g, C / g * kernel, O / g]`.
    """
    if isinstance(synapse, nn.Linear):
        return (x.flatten(0, -2).mT @ residual.flatten(0, -2))[None]
    assert isinstance(synapse, CONVOLUTIONS)
    x, stride = _padded(synapse, x), synapse.stride
    if overruns(synapse):
        x, stride = strided(x, stride), (1, 1)
    gradient = CONVOLUTION_WEIGHTS[residual.dim() - 3](
        x,
        synapse.weight.shape,
        residual,
        stride=stride,
        dilation=synapse.dilation,
        groups=synapse.groups,
    )
    return gradient.flatten(1).unflatten(0, (synapse.groups, -1)).mT


def _groups(synapse: nn.Module) -> int:
    return int(getattr(synapse, "groups", 1))


def _padded(synapse: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(synapse, CONVOLUTIONS)
    if isinstance(synapse.padding, str):
        same = synapse.padding == "same"
        reach = [d * (k - 1) * same for k, d in zip(synapse.kernel_size, synapse.dilation, strict=True)]
        pads = [(r // 2, r - r // 2) for r in reach]
    else:
        pads = [(p, p) for p in synapse.padding]
    if not any(map(any, pads)):
        return x
    mode = "constant" if synapse.padding_mode == "zeros" else synapse.padding_mode
    return F.pad(x, [p for pair in reversed(pads) for p in pair], mode)


class RidgeProblem:
    """`argmin_D sum ||r - U D||^2 + ridge ||D||^2`, the change D of a sum's synapses and of their bias.

    The ridge is in units of the mean of the Gram matrix's diagonal; the bias is free of it. Sums are in
    float64, over chunks and processes.

    Args:
        network: the spiking model's.
        part: the synapses.
        unit: takes the change of the bias where no synapse of the sum has one; None if the sum is not its
            current, and there is no bias then.
    """

    def __init__(self, network: StageNetwork, part: SynapseSum, unit: IFNeuron | Readout | None) -> None:
        self.synapses = [cast("nn.Linear | nn.Conv2d", network.operators[name]) for name in part.synapses]
        self.inputs = [network.nodes[name].inputs[0] for name in part.synapses]
        self.own = next((m.bias for m in self.synapses if m.bias is not None), None)
        self.unit = unit if traits_of(self.synapses[0]).channels_lead else None
        first = self.synapses[0].weight
        self.sizes = [m.weight[0].numel() for m in self.synapses]
        self.groups = _groups(self.synapses[0])
        self.width = sum(self.sizes) + (self.own is not None or self.unit is not None)
        outputs = first.shape[0] // self.groups
        self.gram = first.new_zeros(self.groups, self.width, self.width, dtype=torch.float64)
        self.moment = first.new_zeros(self.groups, self.width, outputs, dtype=torch.float64)
        self.change = torch.zeros_like(self.moment)
        self.factor: Tensor | None = None

    def add(self, values: Mapping[str, Tensor], residual: Tensor) -> None:
        """Count some images.

        Args:
            values: what the synapses read, `[n, C, ...]` by name.
            residual: r, what is to be added to their sum, `[n, O, ...]`.
        """
        read = [values[key] for key in self.inputs]
        if self.factor is None:
            positions = residual.numel() // (max(len(residual), 1) * self.moment.shape[-1] * self.groups)
            images = max(1, DESIGN_NUMBERS // (positions * self.width * self.groups))
            for start in range(0, len(residual), images):
                self._add_gram([x[start : start + images] for x in read])
        parts = [weight_moment(m, x, residual) for m, x in zip(self.synapses, read, strict=True)]
        if self.width > sum(self.sizes):
            over = residual.flatten(0, -2) if isinstance(self.synapses[0], nn.Linear) else residual
            channels = [d for d in range(over.dim()) if d != 1]
            parts.append(over.sum(channels).view(self.groups, 1, -1))
        self.moment += torch.cat(parts, 1)

    def _add_gram(self, read: list[Tensor]) -> None:
        parts = [columns(m, x) for m, x in zip(self.synapses, read, strict=True)]
        ones = parts[0].new_ones(*parts[0].shape[:2], self.width - sum(self.sizes))
        design = torch.cat([*parts, ones], 2)
        self.gram += design.mT @ design

    def solve(self, ridge: float, communicator: Communicator) -> None:
        """Change weights and bias to the solution for what was counted since the last time.

        The pull is towards the weights as they were at first, however often this is called.

        Raises:
            CalibrationError: the Gram matrix has no Cholesky factor even so.
        """
        if self.factor is None:
            gram = communicator.sum(self.gram)
            diagonal = gram.diagonal(dim1=1, dim2=2)
            weights = sum(self.sizes)
            self.pull = torch.full_like(diagonal, 1e-9)
            self.pull[:, :weights] = ridge * diagonal[:, :weights].mean(1, keepdim=True).clamp(min=1e-30)
            diagonal += self.pull
            self.factor, failed = torch.linalg.cholesky_ex(gram)
            if failed.any():
                raise CalibrationError(
                    f"The least squares problem of '{self.inputs[0]}' is singular: raise weights.ridge "
                    f"(now {ridge})."
                )
        moment = communicator.sum(self.moment) - self.pull[..., None] * self.change
        step = torch.cholesky_solve(moment, self.factor)
        self.change += step
        self.moment.zero_()
        *parts, bias = step.split([*self.sizes, self.width - sum(self.sizes)], 1)
        for synapse, part in zip(self.synapses, parts, strict=True):
            weight = synapse.weight.data
            weight += part.mT.reshape(weight.shape).to(weight)
        if self.own is not None:
            self.own.data += bias.flatten().to(self.own)
        elif self.unit is not None:
            self.unit.bias = self.unit.bias + bias.flatten().to(self.unit.bias)


@register_step
@dataclass(frozen=True)
class LeastSquares(Step):
    """Weight calibration in closed form: `argmin_W ||y - (W rate + b)||^2 + ridge ||W - W_ann||^2`.

    y is the ANN's value that the synapses, all of a sum jointly, are to give, `rate` the SNN's mean input;
    then the same with both sides clipped to the rates that the neuron can have. It takes the place of
    `Weights`, whose loss (PC eq. 23) it minimises but for the rounding.

    Args:
        ridge: pull towards the weights of the ANN, in units of the mean of the Gram matrix's diagonal.
        iterations: solutions in all; those after the first are of the clipped form. Each runs over the
            images once, and only the first makes the Gram matrix.
        images: how many calibration images it uses; None for all.
    """

    ridge: float = 0.1
    iterations: int = 4
    images: int | None = None

    def __post_init__(self) -> None:
        check_positive("weights.ridge", self.ridge)
        check_whole("weights.iterations", self.iterations)
        check_whole("weights.images", self.images, optional=True)

    def add_work(self, work: Work) -> Work:
        """Count the solutions."""
        return replace(work, solutions=work.solutions + self.iterations)

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
        part: RidgeProblem(network, part, unit if part.point == stage.current else None)
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
        last = part.point == stage.current and isinstance(unit, IFNeuron)
        for iteration in range(settings.iterations if last else 1):
            for i, inside in context.chunks(settings.images):
                target, values = context.ann_value(part.point, i), context.mean_values(i)
                present = values[part.point]
                if last:
                    present = present + per_channel(unit.bias - offset, present)
                if iteration > 0:
                    target, present = (_shown(y, cast(IFNeuron, unit)) for y in (target, present))
                problem.add({key: x[:inside] for key, x in values.items()}, (target - present)[:inside])
            problem.solve(settings.ridge, context.communicator)
    after = _expected_error(context)
    if not after <= before:
        for name, value in _state(context).items():
            value.copy_(kept[name])
        unit.bias = offset
    return StepReport(before, min(after, before), {"kept": float(after <= before), "left": float(left)})


def _shown(current: Tensor, unit: IFNeuron) -> Tensor:
    """Clip mean currents to the rates that the unit can have."""
    largest = per_channel(unit.v_th * unit.highest, current)
    return torch.minimum(current.clamp(min=0), largest)


def _expected_error(context: StageContext) -> float:
    """Return the relative error of the expected rate over all images."""
    error, unit = RelativeError(context.device), cast("IFNeuron | Readout", context.unit)
    for i in range(len(context.indices)):
        rate = unit.expected_rate(context.mean_values(i)[context.stage.current], context.timesteps)
        error.add(context.activations[i].get(), rate)
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
