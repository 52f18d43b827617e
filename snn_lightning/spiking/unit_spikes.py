"""Weight rescaling to {0, 1} spikes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from snn_lightning.graph.ir import Node, readers, tree_map
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import CONVOLUTIONS, Affine, build, traits_of
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.units import Readout


@torch.no_grad()
def rescale_to_unit_spikes(model: SpikingModel) -> SpikingModel:
    """Return an equal network whose neurons fire whole numbers, {0, 1}, with threshold 1 (PC eq. 5).

    `W := W * v_th_before / v_th`, `b := b / v_th`, `v_init := v_init / v_th`, `v_th := 1`. Where a scale
    meets no weight (an identity shortcut, a sum) it stays as a per-channel affine operator.

    Args:
        model: a converted or calibrated network; left as it is.

    Returns:
        A new SpikingModel with the same spikes (up to float rounding at the threshold) and the same output.

    Example:
        >>> from snn_lightning import convert
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> snn = rescale_to_unit_spikes(convert(ann, torch.rand(8, 2), timesteps=4))
        >>> snn.neurons["_1"].v_th
        tensor([1., 1., 1.])
    """
    model = copy.deepcopy(model)
    rescaling = _Rescaling(model)
    network = StageNetwork(rescaling.run(), rescaling.output, rescaling.modules, model.network.gates)
    network.shapes = model.network.shapes
    result = SpikingModel(network, model.conversion).eval()
    result.rows, result.status, result.unit_spikes = model.rows, model.status, True
    for name, neuron in model.neurons.items():
        v_th = neuron.v_th
        neuron.v_init = neuron.v_init / _like(v_th, neuron.v_init)
        neuron.bias, neuron.v_th = neuron.bias / _like(v_th, neuron.bias), torch.ones_like(v_th)
        result.units[name] = neuron
    leaves = zip(model.network.schedule.outputs, network.schedule.outputs, strict=True)
    for before, after in leaves:
        # An output that is a unit's own has got a readout only now.
        unit = model.units[model.network.schedule.outputs[before]]
        if isinstance(unit, Readout):
            result.units[network.schedule.outputs[after]] = unit
    return result.to(next(model.buffers()).device)


class _Rescaling:
    """Carries each neuron's threshold forward through the graph until a weight takes it."""

    def __init__(self, model: SpikingModel) -> None:
        self.model, self.network = model, model.network
        self.modules: dict[str, nn.Module] = dict(self.network.operators.items())
        self.nodes: list[Node] = []
        self.pending: dict[str, Tensor] = {}
        self.rescaled: dict[str, str] = {}
        self.readers = readers(self.network.nodes)
        self.outputs = set(self.network.schedule.outputs)
        self.output: Any = self.network.output

    def run(self) -> list[Node]:
        """Return the new nodes."""
        for node in self.network.nodes.values():
            self._visit(node)
        self.output = tree_map(self._true_value, self.network.output)
        return self.nodes

    def _visit(self, node: Node) -> None:
        scales = [self.pending.get(key) for key in node.inputs]
        module = self.modules[node.name]
        if node.name in self.model.neurons:
            v_th = self.model.neurons[node.name].v_th
            node = replace(node, inputs=(self._divided(node.inputs[0], v_th, node.name),))
            self.pending[node.name] = v_th
        elif scales[0] is not None and traits_of(module).channels_lead:
            self._absorb(module, scales[0])
        elif scales[0] is not None and (carried := self._carried(node, scales[0])) is not None:
            self.pending[node.name] = carried
        elif any(scale is not None for scale in scales):
            node = replace(node, inputs=tuple(self._true_value(key) for key in node.inputs))
        self.nodes.append(node)

    def _absorb(self, synapse: nn.Module, scale: Tensor) -> None:
        """Multiply a synapse's input channels by `scale`, `[]` or `[C]`."""
        weight = cast(Tensor, synapse.weight)
        if scale.dim():
            groups = synapse.groups if isinstance(synapse, CONVOLUTIONS) else 1
            per_group = scale.view(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
            scale = per_group.view(*per_group.shape, *[1] * (weight.dim() - 2))
        synapse.weight = nn.Parameter(weight * scale, requires_grad=False)

    def _divided(self, key: str, v_th: Tensor, site: str) -> str:
        """Return the name of a value that is `key` over `v_th`."""
        module = self.modules.get(key)
        alone = self.readers[key] == [site] and key not in self.outputs
        if module is not None and traits_of(module).channels_lead and alone:
            weight = cast(Tensor, module.weight)
            shaped = v_th.view(-1, *[1] * (weight.dim() - 1)) if v_th.dim() else v_th
            module.weight = nn.Parameter(weight / shaped, requires_grad=False)
            if isinstance(module.bias, Tensor):
                module.bias = nn.Parameter(module.bias / v_th, requires_grad=False)
            return key
        return self._scaled(key, self.pending.get(key, torch.ones_like(v_th)) / v_th, f"{site}_gain")

    def _true_value(self, key: str) -> str:
        """Return the name of a value in activation units."""
        if key not in self.pending:
            return key
        if key not in self.rescaled:
            self.rescaled[key] = self._scaled(key, self.pending[key], f"{key}_scale")
        return self.rescaled[key]

    def _scaled(self, key: str, scale: Tensor, name: str) -> str:
        if scale.dim():
            module: nn.Module = Affine(scale.numel())
            module.weight, module.bias = scale.clone(), torch.zeros_like(scale)
            self.nodes.append(Node(name, "Affine", (key,), {"channels": scale.numel()}))
        else:
            settings = {"factor": scale.item()}
            module = build("Scale", settings)
            self.nodes.append(Node(name, "Scale", (key,), settings))
        self.modules[name] = module
        return name

    def _carried(self, node: Node, scale: Tensor) -> Tensor | None:
        """Return the scale of an operator's value, if it passes that of its input on."""
        modules = [self.modules[name] for name in self.readers[node.name]]
        linear = [m.in_features for m in modules if isinstance(m, nn.Linear)]
        alone = len(linear) == len(modules) and node.name not in self.outputs
        module = self.modules[node.name]
        return traits_of(module).carried(module, scale, linear[0] if linear and alone else None)


def _like(v_th: Tensor, values: Tensor) -> Tensor:
    return v_th.view(-1, *[1] * (values.dim() - 1)) if v_th.dim() and values.dim() > 1 else v_th
