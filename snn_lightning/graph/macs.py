"""How many multiply-accumulates something does, and which share of a network's spikes bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Node, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import traits_of


def count_macs(run: Callable[..., Tensor], *arguments: Any) -> tuple[Tensor, int]:
    """Return what `run` gives, and the multiply-accumulates that it does, by torch's count.

    Example:
        >>> from torch import nn
        >>> count_macs(nn.Linear(3, 2), torch.ones(1, 3))[1]
        6
    """
    with FlopCounterMode(display=False) as flops:
        result = run(*arguments)
    return result, flops.get_total_flops() // 2


def spiking_share(network: StageNetwork, image: Tensor) -> float:
    """Return the share of the ANN's multiply-accumulates in synapses that receive nothing but spikes.

    The others are those of analog operators, and of synapses that read the image, analog results, means of
    earlier windows, or what other synapses give. They are as many as torch's flop counter finds.

    Args:
        network: the ANN in stages.
        image: `[1, ...]`; it may be on the meta device, as the network then is.

    Returns:
        0 where there are none at all.

    Example:
        >>> from torch import nn
        >>> from snn_lightning.graph import normalise
        >>> x = torch.rand(1, 2)
        >>> spiking_share(normalise(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 6)), x), x)
        0.75
    """
    counter = _Counter(network, image)
    with torch.no_grad():
        counter.interpret()
        counter.finish()
    return counter.spiking / max(counter.macs, 1)


class _Counter(ANNInterpreter):
    """Runs one image through the ANN and follows what would be spikes.

    Args:
        network: the ANN.
        image: `[1, ...]`.
    """

    def __init__(self, network: StageNetwork, image: Tensor) -> None:
        super().__init__(network, {INPUT: image})
        self.spikes: set[str] = set()
        self.macs = self.spiking = 0

    def finish(self) -> None:
        """Count the operations behind the last unit."""
        self.spikes.clear()
        self.tail()

    def operator(self, node: Node, *inputs: Tensor) -> Tensor:
        """Run an operator, and count what it multiplies."""
        value, macs = count_macs(super().operator, node, *inputs)
        traits = traits_of(self.network.operators[node.name])
        receives_spikes = self.spikes.issuperset(node.inputs)
        self.macs += macs
        if receives_spikes and traits.weighted:
            self.spiking += macs
        elif receives_spikes and not traits.analog:
            self.spikes.add(node.name)
        return value

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        """Return the stage's activation, `[1, ...]`: spikes, but for a readout."""
        if stage.kind != "readout":
            self.spikes.add(stage.name)
        return super().unit(stage, current)

    def average(self, name: str) -> None:
        """Let later windows read numbers instead of spikes."""
        self.spikes.discard(name)
