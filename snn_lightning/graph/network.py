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
from snn_lightning.graph.operators import build, traits_of
from snn_lightning.graph.precision import compute
from snn_lightning.graph.rebuild import rebuilt
from snn_lightning.graph.schedule import Schedule, make_schedule


class StageNetwork(nn.Module):
    """An ANN as plain operators in stages; running it reproduces the user's module.

    Args:
        nodes: operator calls in topological order.
        output: tree of value names with the structure of the ANN's output.
        modules: the operator of each node; built from the settings where missing.
        gates: names of max pools that become gates (their own stages) in the spiking network.

    Attributes:
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

    @cached_property
    def schedule(self) -> Schedule:
        """The order in which the network is run."""
        return make_schedule(self.nodes, self.output, self.gates)

    @property
    def temporal(self) -> frozenset[str]:
        """Names of the values that change from time step to time step; all others are static."""
        return self.schedule.temporal

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages, those of a window together, each after those it reads."""
        return self.schedule.stages

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in topological order."""
        return tuple(stage.name for stage in self.stages if stage.kind == "neuron")

    def title(self, name: str) -> str:
        """Return what an operator is called in a report."""
        return str(getattr(self.operators[name], "title", self.nodes[name].op))

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

    def arrange(self, outputs: Mapping[str, Tensor], over_time: bool = False) -> Any:
        """Return the ANN's output, given those of its units; the analog operators behind them run now.

        Args:
            outputs: `[N, ...]` by the unit's name, or `[T, N, ...]`.
            over_time: whether they are `[T, N, ...]`.
        """
        values = {leaf: outputs[unit] for leaf, unit in self.schedule.outputs.items()}
        if over_time and self.schedule.tail:
            steps = len(next(iter(values.values())))
            flat = {leaf: value.flatten(0, 1) for leaf, value in values.items()}
            results = self.run_operators(self.schedule.tail, flat)
            values = {leaf: value.unflatten(0, (steps, -1)) for leaf, value in results.items()}
        else:
            values = self.run_operators(self.schedule.tail, values)
        return tree_map(values.__getitem__, self.output)

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
    def from_spec(
        cls,
        spec: Mapping[str, Any],
        state: Mapping[str, Tensor] | None = None,
        ann: nn.Module | None = None,
    ) -> StageNetwork:
        """Rebuild a network from `spec()`, with fresh parameters.

        Args:
            spec: the description.
            state: the parameters that will be loaded; a description of other sizes is refused before memory
                is taken for it.
            ann: the network that was converted, where modules of the user's own are left analog.

        Raises:
            CheckpointError: the description makes no sense, or does not fit `state`; or a module of the
                user's own is missing.
        """
        try:
            nodes = [Node(**{**node, "inputs": tuple(node["inputs"])}) for node in spec["nodes"]]
            check_description(nodes, spec["output"], spec["gates"], state, ann)
            modules = {node.name: rebuilt(node, ann) for node in nodes}
            return cls(nodes, spec["output"], modules, spec["gates"])
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise CheckpointError(
                f"The network description in the checkpoint is not readable ({reason}): the file is damaged "
                "or was written by another version of snn_lightning; convert the ANN again."
            ) from error


def require_sites(network: StageNetwork) -> None:
    """Raise a ConversionError if the network has no site."""
    if not network.sites:
        analog = any(traits_of(operator).analog for operator in network.operators.values())
        raise ConversionError(
            "The network has no activation (ReLU, ReLU6, LeakyReLU, PReLU, Hardtanh(0, a) or clamp(0, a))"
            f"{' outside what is left analog' if analog else ''}, so there is nothing to turn into spiking "
            "neurons. Pass the part of the model that has them"
            f"{', or leave less of it analog' if analog else ''}."
        )
