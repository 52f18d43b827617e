"""The normalised ANN: operators with their parameters, on a graph cut into stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import CheckpointError, ConversionError
from snn_lightning.graph.description import check_description
from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Node, Stage, tree_map
from snn_lightning.graph.operators import build
from snn_lightning.graph.passes.partition import partition, temporal_values
from snn_lightning.graph.precision import compute
from snn_lightning.graph.schedule import Schedule, make_schedule


class StageNetwork(nn.Module):
    """An ANN as plain operators in stages; running it reproduces the user's module.

    Args:
        nodes: operator calls in topological order.
        output: tree of value names with the structure of the ANN's output.
        modules: the operator of each node; built from the settings where missing.
        gates: names of max pools that become gates (their own stages) in the spiking network.

    Attributes:
        temporal: names of the values that depend on a unit; all others are static.
        precision: in which the temporal synapses compute; see `graph.precision`.
        shapes: of the input and of each site's value, `[C, ...]` without the batch, on the conversion's
            sample; empty where that is not known.

    Example:
        >>> half = Node("half_of_it", "Scale", (INPUT,), {"factor": 0.5})
        >>> network = StageNetwork([half, Node("site", "Activation", ("half_of_it",))], output="site")
        >>> network.sites, network(torch.tensor([[-4.0, 4.0]]))
        (('site',), tensor([[0., 2.]]))
    """

    precision: str = "float32"

    def __init__(
        self,
        nodes: Iterable[Node],
        output: Any,
        modules: Mapping[str, nn.Module] | None = None,
        gates: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.nodes = {node.name: node for node in nodes}
        self.output = output
        self.shapes: dict[str, tuple[int, ...]] = {}
        modules = modules or {}
        self.operators = nn.ModuleDict(
            {
                n.name: modules[n.name] if n.name in modules else build(n.op, n.settings)
                for n in self.nodes.values()
            }
        )
        for parameter in self.parameters():
            if parameter.dim() == 4:
                # The faster layout on CPU and GPU, and one layout everywhere makes a loaded model equal bit
                # for bit.
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.gates = frozenset(gates)
        self.temporal = temporal_values(self.nodes)

    @cached_property
    def schedule(self) -> Schedule:
        """The order in which the network is run."""
        stages = partition(self.nodes, self.output, self.gates & self.temporal)
        return make_schedule(self.nodes, stages, self.output, self.temporal)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in topological order, readouts last."""
        return self.schedule.stages

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in topological order."""
        return tuple(stage.name for stage in self.stages if stage.kind == "neuron")

    def run_operator(self, name: str, *inputs: Tensor) -> Tensor:
        """Run one operator on tensors `[B, ...]`, in its precision."""
        return compute(self.operators[name], inputs, self.precision_of(name))

    def precision_of(self, name: str) -> str:
        """Return the precision of an operator: the network's, or float32 where its value is static.

        Static values are computed once, whatever T is, and their rounding would be the same at every step.
        """
        return self.precision if name in self.temporal else "float32"

    def run_operators(self, names: Iterable[str], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the operators `names` on top of `values`.

        Args:
            names: operators in topological order.
            values: tensors `[B, ...]` by value name; the operators may read nothing else but each other.

        Returns:
            `values` and one tensor `[B, ...]` more for each operator.
        """
        results = dict(values)
        for name in names:
            results[name] = self.run_operator(name, *(results[key] for key in self.nodes[name].inputs))
        return results

    def forward(self, x: Tensor) -> Any:
        """Run the ANN on `x` of shape `[N, ...]`; returns the user's output structure."""
        ann = ANNInterpreter(self, {INPUT: x})
        ann.interpret()
        return self.arrange(ann.outputs)

    def arrange(self, outputs: Mapping[str, Tensor]) -> Any:
        """Return the units' `outputs`, by the unit's name, in the structure of the ANN's output."""
        return tree_map(lambda leaf: outputs[self.schedule.outputs[leaf]], self.output)

    def spec(self) -> dict[str, Any]:
        """Return the network without its parameters as plain numbers, strings, tuples, lists and dicts."""
        nodes = [
            {
                "name": n.name,
                "op": n.op,
                "inputs": list(n.inputs),
                "settings": dict(n.settings),
                "path": n.path,
            }
            for n in self.nodes.values()
        ]
        return {"nodes": nodes, "output": self.output, "gates": sorted(self.gates)}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> StageNetwork:
        """Rebuild a network from `spec()`, with fresh parameters.

        Args:
            spec: the description.
            state: the parameters that will be loaded; a description of other sizes is refused before memory
                is taken for it.

        Raises:
            CheckpointError: the description makes no sense, or does not fit `state`.
        """
        try:
            nodes = [Node(**{**node, "inputs": tuple(node["inputs"])}) for node in spec["nodes"]]
            check_description(nodes, spec["output"], spec["gates"], state)
            return cls(nodes, spec["output"], gates=spec["gates"])
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise CheckpointError(
                f"The network description in the checkpoint is not readable ({reason}): the file is damaged "
                "or was written by another version of snn_lightning; convert the ANN again."
            ) from error


def require_sites(network: StageNetwork) -> None:
    """Raise a ConversionError if the network has no site."""
    if not network.sites:
        raise ConversionError(
            "The network has no activation (ReLU, ReLU6, LeakyReLU, PReLU, Hardtanh(0, a) or clamp(0, a)), "
            "so there is nothing to turn into spiking neurons. Pass the part of the model that has them."
        )
