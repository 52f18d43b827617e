"""torchvision's own operators, where it is in use."""

from __future__ import annotations

import sys
from functools import cache
from typing import cast

from torch import Tensor, nn

from snn_lightning.graph.capture.lowering import Lowering, Value
from snn_lightning.graph.capture.registry import function_rule, module_rule
from snn_lightning.graph.capture.rules.identity import identity
from snn_lightning.graph.capture.rules.shapes import narrow
from snn_lightning.graph.capture.rules.synapses import batch_norm


def register_torchvision() -> None:
    """Register its rules if it has been imported, which takes a second: else no network has its operators."""
    if sys.modules.get("torchvision") is not None:
        _register()


@cache
def _register() -> None:
    from torchvision import ops
    from torchvision.models import swin_transformer

    function_rule(ops.stochastic_depth)(identity)
    module_rule(ops.FrozenBatchNorm2d)(_frozen_batch_norm)
    # Hidden from torch.fx, not public, and so perhaps not there in another version of torchvision.
    if (function := getattr(swin_transformer, "_patch_merging_pad", None)) is not None:
        function_rule(function)(_patch_merging)


def _patch_merging(low: Lowering, x: Value) -> Value:
    """Write the merging of 2 x 2 patches: `[N, H, W, C]`, padded to even sizes, to `[N, H/2, W/2, 4C]`."""
    n, height, width, channels = x.shape
    size = (height + height % 2, width + width % 2)
    pad = (0, 0, 0, width % 2, 0, height % 2)
    x = low.add("Pad", [x], {"pad": pad, "value": 0.0}, shape=(n, *size, channels))
    parts = []
    for column, row in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = narrow(low, x, 1, row, size[0] - row, 2)
        parts.append(narrow(low, part, 2, column, size[1] - column, 2))
    return low.add("Cat", parts, {"dim": 3})


def _frozen_batch_norm(low: Lowering, module: nn.Module, x: Value) -> Value:
    mean, var, weight, bias = (
        cast(Tensor, part) for part in (module.running_mean, module.running_var, module.weight, module.bias)
    )
    return batch_norm(low, x, mean, var, weight, bias, eps=cast(float, module.eps))
