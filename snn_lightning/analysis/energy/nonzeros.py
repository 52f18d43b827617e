"""Where the numbers in an ANN are not zero."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Node, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import traits_of


@torch.no_grad()
def nonzeros(network: StageNetwork, images: Tensor, at_once: int = 16) -> dict[str, Tensor]:
    """Return how often a synapse's inputs, and a site's activations, are not zero.

    Args:
        network: the ANN in stages, in eval mode.
        images: `[N, ...]`.
        at_once: images that are run together.

    Returns:
        By the name of the synapse and of the site the sum over images, `[1, C, ...]`, float64.

    Example:
        >>> from torch import nn
        >>> from snn_lightning.graph import normalise
        >>> x = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
        >>> nonzeros(normalise(nn.Sequential(nn.ReLU(), nn.Linear(2, 3)), x), x)["_1"]
        tensor([[2., 1.]], dtype=torch.float64)
    """
    counter = _Nonzeros(network)
    # An SNN that is no longer in use may have been left on another device.
    device = next((tensor.device for tensor in network.state_dict().values()), images.device)
    for chunk in images.split(at_once):
        counter.count(chunk.to(device))
    return {name: count.to(images.device) for name, count in counter.counts.items()}


class _Nonzeros(ANNInterpreter):
    """Runs the ANN, and adds up what is not zero.

    Args:
        network: the ANN.
    """

    def __init__(self, network: StageNetwork) -> None:
        super().__init__(network, {})
        self.counts: dict[str, Tensor] = {}

    def count(self, images: Tensor) -> None:
        """Add what is not zero on `images`, `[N, ...]`."""
        self.values = {INPUT: images}
        self.interpret()
        self.tail()

    def _add(self, name: str, values: Tensor) -> None:
        count = (values != 0).sum(0, keepdim=True, dtype=torch.float64)
        self.counts[name] = self.counts[name] + count if name in self.counts else count

    def operator(self, node: Node, *inputs: Tensor) -> Tensor:
        """Run an operator, and count what a synapse receives."""
        if traits_of(self.network.operators[node.name]).weighted:
            self._add(node.name, inputs[0])
        return super().operator(node, *inputs)

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        """Return the stage's activation, and count a site's."""
        value = super().unit(stage, current)
        if stage.kind == "neuron":
            self._add(stage.name, value)
        return value
