"""What becomes of pooling; average pooling as a depthwise convolution with neurons of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import ConversionError, SettingsError
from snn_lightning.graph.ir import ACTIVATION, INPUT, Node
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import MAX_POOLS, settings_of
from snn_lightning.settings import Settings

MAX_POOLING = ("gated", "average", "keep")

AVERAGE_POOLS = (
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
)
_NON_NEGATIVE = (ACTIVATION, *AVERAGE_POOLS, "Cat", "Flatten", "Reshape", "Permute", "Narrow", "MaxPool2d")


@dataclass(frozen=True, kw_only=True)
class Pooling(Settings):
    """What becomes of the pooling of spikes.

    Args:
        max_pooling: "gated" passes, in each window, the spikes of the input with the largest rate so far;
            "average" replaces max pooling; "keep" takes the maximum of the spikes of each time step.
        convert_avg_pool: give every average pooling of spikes neurons of its own, as a depthwise convolution
            (FL appendix B, eq. 24).
    """

    max_pooling: str = "gated"
    convert_avg_pool: bool = False

    def __post_init__(self) -> None:
        if self.max_pooling not in MAX_POOLING:
            raise SettingsError(
                f"max_pooling must be one of {', '.join(MAX_POOLING)}, got {self.max_pooling!r}"
            )


def pooling_of(network: StageNetwork) -> Pooling:
    """Return what has become of pooling in `network`, which files of formats 1 to 3 don't say."""
    kept = any(isinstance(network.operators[name], MAX_POOLS) for name in network.temporal)
    return Pooling(
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
    dims = len(size)
    kernel: Any
    stride: Any
    padding: Any
    if "Adaptive" in type(pool).__name__:
        target = _tuple(pool.output_size, dims)
        target = tuple(s if t is None else t for s, t in zip(size, target, strict=True))
        if any(s % t for s, t in zip(size, target, strict=True)):
            raise ConversionError(
                f"Adaptive average pooling from {size} to {target} has uneven windows: keep it analog."
            )
        kernel = tuple(s // t for s, t in zip(size, target, strict=True))
        stride, padding = kernel, (0,) * dims
    else:
        kernel, stride = _tuple(pool.kernel_size, dims), _tuple(pool.stride or pool.kernel_size, dims)
        padding = _tuple(pool.padding, dims)
        uneven = any((s + 2 * p - k) % t for s, p, k, t in zip(size, padding, kernel, stride, strict=True))
        not_counted = any(padding) and not pool.count_include_pad
        if (pool.ceil_mode and uneven) or not_counted or getattr(pool, "divisor_override", None):
            raise ConversionError(
                "Average pooling with ceil_mode or uncounted padding is no convolution: keep it analog."
            )
    cls = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    conv = cls(channels, channels, kernel, stride, padding, groups=channels, bias=True)
    weight = torch.full_like(conv.weight, 1.0 / conv.weight[0].numel())
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(torch.zeros(channels), requires_grad=False)
    return conv


@torch.no_grad()
def convert_average_pooling(network: StageNetwork, sample: Tensor) -> StageNetwork:
    """Give every average pooling of spikes a site of its own: pool -> depthwise convolution -> activation.

    The ANN computes the same, since the mean of non-negative values is non-negative. A pooling of values that
    may be negative stays as it is.
    """
    values = network.run_operators(network.nodes, {INPUT: sample[:1]})
    nodes: list[Node] = []
    modules: dict[str, nn.Module] = dict(network.operators.items())
    for name, node in network.nodes.items():
        if node.op in AVERAGE_POOLS and name in network.temporal and _non_negative(network, name):
            x = values[node.inputs[0]]
            conv = depthwise(modules[name], x.shape[1], tuple(x.shape[2:])).to(x)
            settings: dict[str, Any] = settings_of(conv)
            nodes.append(
                Node(f"{name}_synapse", type(conv).__name__, node.inputs, settings, node.path, node.line)
            )
            modules[f"{name}_synapse"] = conv
            del modules[name]
            node = Node(name, ACTIVATION, (f"{name}_synapse",), {"cap": None}, node.path, node.line)
        nodes.append(node)
    return StageNetwork(nodes, network.output, modules, network.gates)


def _non_negative(network: StageNetwork, name: str) -> bool:
    node = network.nodes[name]
    if node.op == ACTIVATION:
        return True
    if node.op not in _NON_NEGATIVE and not node.op.startswith(("MaxPool", "AdaptiveMaxPool")):
        return False
    return all(key != INPUT and _non_negative(network, key) for key in node.inputs)


def _tuple(value: Any, dims: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * dims
