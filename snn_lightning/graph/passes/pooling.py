"""What becomes of pooling; average pooling as a depthwise convolution with neurons of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.graph.ir import ACTIVATION, INPUT, Node
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import CONVOLUTIONS, settings_of, traits_of
from snn_lightning.graph.settings import GraphSettings


def settings_from(network: StageNetwork) -> GraphSettings:
    """Return what has become of `network`, which files of formats 1 to 3 don't say."""
    kept = any(traits_of(network.operators[name]).pools == "max" for name in network.temporal)
    return GraphSettings(
        max_pooling="gated" if network.gates else "keep" if kept else "average",
        convert_avg_pool=any(f"{name}_synapse" in network.nodes for name in network.sites),
    )


def depthwise(pool: nn.Module, channels: int, size: tuple[int, ...]) -> nn.Module:
    """Return an average pooling as a depthwise convolution (FL eq. 24).

    Every kernel weight is `1 / (kW * kH)` and the bias is zero.

    Args:
        pool: an average pooling, plain or adaptive.
        channels: C of its input `[B, C, *size]`.
        size: spatial size of its input; an adaptive pooling must divide it.

    Raises:
        ConversionError: the pooling is not a convolution (ceil mode, uneven adaptive windows, padding not
            counted).
    """
    kernel, stride, padding = traits_of(pool).window(pool, size)
    cls = CONVOLUTIONS[len(size) - 1]
    conv = cls(channels, channels, kernel, stride, padding, groups=channels, bias=True)
    weight = torch.full_like(conv.weight, 1.0 / conv.weight[0].numel())
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(torch.zeros(channels), requires_grad=False)
    return conv


@torch.no_grad()
def convert_average_pooling(network: StageNetwork, sample: Tensor) -> StageNetwork:
    """Give every average pooling of spikes a site of its own: pool -> depthwise convolution -> activation.

    The ANN computes the same, since the mean of non-negative values is non-negative, and no larger than their
    cap. A pooling of values that may be negative stays as it is.
    """
    values = network.run_operators(network.nodes, {INPUT: sample[:1]})
    nodes: list[Node] = []
    modules: dict[str, nn.Module] = dict(network.operators.items())
    for name, node in network.nodes.items():
        pools = traits_of(modules[name]).pools
        if pools == "average" and name in network.temporal and _non_negative(network, name):
            x = values[node.inputs[0]]
            conv = depthwise(modules[name], x.shape[1], tuple(x.shape[2:])).to(x)
            settings: dict[str, Any] = settings_of(conv)
            nodes.append(
                Node(f"{name}_synapse", type(conv).__name__, node.inputs, settings, node.path, node.line)
            )
            modules[f"{name}_synapse"] = conv
            del modules[name]
            cap = {"cap": _cap(network, name)}
            node = Node(name, ACTIVATION, (f"{name}_synapse",), cap, node.path, node.line)
        nodes.append(node)
    return StageNetwork(nodes, network.output, modules, network.gates)


def _non_negative(network: StageNetwork, name: str) -> bool:
    node = network.nodes[name]
    if node.op == ACTIVATION:
        return True
    keeps_sign = traits_of(network.operators[name]).keeps_sign
    return keeps_sign and all(key != INPUT and _non_negative(network, key) for key in node.inputs)


def _cap(network: StageNetwork, name: str) -> float | None:
    """Return the upper bound of values that are not negative; None where there is none."""
    node = network.nodes[name]
    if node.op == ACTIVATION:
        return node.settings["cap"]
    caps = [_cap(network, key) for key in node.inputs]
    return None if None in caps else max(cap for cap in caps if cap is not None)
