"""Ridge regression of the weights of convolutions and linear layers whose outputs are added up."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.errors import CalibrationError
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import CONVOLUTIONS, groups_of, traits_of
from snn_lightning.graph.pointwise import overruns, strided
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.units import Readout

CONVOLUTION_WEIGHTS = (conv1d_weight, conv2d_weight, conv3d_weight)
RIDGE = 0.1
"""Where no images are held out to choose it."""

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
DESIGN_NUMBERS = 1 << 26
"""Numbers of the design matrix that are laid out at once."""


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


@dataclass
class Sums:
    """The normal equations of some images: `U^T U`, and `U^T r`."""

    gram: Tensor
    moment: Tensor


class RidgeProblem:
    """`argmin_D sum ||r - U D||^2 + ridge ||D||^2`, the change D of a sum's synapses and of their bias.

    The ridge is in units of the mean of the Gram matrix's diagonal; the bias is free of it. Sums are in
    float64, over chunks and processes.

    Args:
        network: the spiking model's.
        synapses: names of the sum's convolutions or linear layers, all with the same number of groups.
        unit: takes the change of the bias where no synapse of the sum has one; None if the sum is not its
            current, and there is no bias then.
    """

    def __init__(
        self, network: StageNetwork, synapses: Sequence[str], unit: IFNeuron | Readout | None
    ) -> None:
        self.synapses = [cast("nn.Linear | nn.Conv2d", network.operators[name]) for name in synapses]
        self.inputs = [network.nodes[name].inputs[0] for name in synapses]
        self.own = next((m.bias for m in self.synapses if m.bias is not None), None)
        self.unit = unit if traits_of(self.synapses[0]).channels_lead else None
        first = self.synapses[0].weight
        self.sizes = [m.weight[0].numel() for m in self.synapses]
        self.groups = groups_of(self.synapses[0])
        self.width = sum(self.sizes) + (self.own is not None or self.unit is not None)
        outputs = first.shape[0] // self.groups
        gram = first.new_zeros(self.groups, self.width, self.width, dtype=torch.float64)
        self.change = first.new_zeros(self.groups, self.width, outputs, dtype=torch.float64)
        self.fitted = Sums(gram, torch.zeros_like(self.change))
        self.held_out = Sums(torch.zeros_like(gram), torch.zeros_like(self.change))
        self.factor: Tensor | None = None

    def add(self, values: Mapping[str, Tensor], residual: Tensor, held_out: bool = False) -> None:
        """Count some images.

        Args:
            values: what the synapses read, `[n, C, ...]` by name.
            residual: r, what is to be added to their sum, `[n, O, ...]`.
            held_out: whether they only choose the ridge.
        """
        read, sums = [values[key] for key in self.inputs], self.held_out if held_out else self.fitted
        if self.factor is None:
            positions = residual.numel() // (max(len(residual), 1) * self.change.shape[-1] * self.groups)
            images = max(1, DESIGN_NUMBERS // (positions * self.width * self.groups))
            for start in range(0, len(residual), images):
                sums.gram += self._gram([x[start : start + images] for x in read])
        parts = [weight_moment(m, x, residual) for m, x in zip(self.synapses, read, strict=True)]
        if self.width > sum(self.sizes):
            over = residual.flatten(0, -2) if isinstance(self.synapses[0], nn.Linear) else residual
            channels = [d for d in range(over.dim()) if d != 1]
            parts.append(over.sum(channels).view(self.groups, 1, -1))
        sums.moment += torch.cat(parts, 1)

    def _gram(self, read: list[Tensor]) -> Tensor:
        parts = [columns(m, x) for m, x in zip(self.synapses, read, strict=True)]
        ones = parts[0].new_ones(*parts[0].shape[:2], self.width - sum(self.sizes))
        design = torch.cat([*parts, ones], 2)
        return design.mT @ design

    def solve(self, ridge: float | None, communicator: Communicator) -> None:
        """Change weights and bias to the solution for what was counted since the last time.

        The pull is towards the weights as they were at first, however often this is called.

        Args:
            ridge: in units of the mean of the Gram matrix's diagonal; None for the one of `RIDGES` whose
                solution has the least error on the images that are held out.
            communicator: connects the processes.

        Raises:
            CalibrationError: the Gram matrix has no Cholesky factor even so.
        """
        moment = communicator.sum(self.fitted.moment)
        if self.factor is None:
            gram = communicator.sum(self.fitted.gram)
            self.ridge = self._choose(gram, moment, communicator) if ridge is None else ridge
            self.pull, self.factor = self._factorise(gram, self.ridge)
        moment -= self.pull[..., None] * self.change
        step = torch.cholesky_solve(moment, self.factor)
        self.change += step
        self.fitted.moment.zero_()
        *parts, bias = step.split([*self.sizes, self.width - sum(self.sizes)], 1)
        for synapse, part in zip(self.synapses, parts, strict=True):
            weight = synapse.weight.data
            weight += part.mT.reshape(weight.shape).to(weight)
        if self.own is not None:
            self.own.data += bias.flatten().to(self.own)
        elif self.unit is not None:
            self.unit.bias = self.unit.bias + bias.flatten().to(self.unit.bias)

    def _choose(self, gram: Tensor, moment: Tensor, communicator: Communicator) -> float:
        """Return the ridge whose solution has the least `||r - U D||^2` on the held-out images."""
        held, target = communicator.sum(self.held_out.gram), communicator.sum(self.held_out.moment)
        if not held.any():
            return RIDGE
        errors = {}
        for ridge in RIDGES:
            change = torch.cholesky_solve(moment, self._factorise(gram, ridge)[1])
            errors[ridge] = ((held @ change - 2 * target) * change).sum().item()
        return min(errors, key=errors.__getitem__)

    def _factorise(self, gram: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Return the pull of a ridge, and the Cholesky factor of the Gram matrix with it on the diagonal."""
        weights, diagonal = sum(self.sizes), gram.diagonal(dim1=1, dim2=2)
        pull = torch.full_like(diagonal, 1e-9)
        pull[:, :weights] = ridge * diagonal[:, :weights].mean(1, keepdim=True).clamp(min=1e-30)
        factor, failed = torch.linalg.cholesky_ex(gram + torch.diag_embed(pull))
        if failed.any():
            raise CalibrationError(
                f"The least squares problem of '{self.inputs[0]}' is singular: raise weights.ridge "
                f"(now {ridge})."
            )
        return pull, factor
