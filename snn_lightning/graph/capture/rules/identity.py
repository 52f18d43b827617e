"""What vanishes in eval mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from snn_lightning.graph.capture.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule, module_rule


@module_rule(
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
def _identity_module(low: Lowering, module: nn.Module, x: Value) -> Value:
    """Write nothing."""
    return x


def identity(low: Lowering, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Write nothing, whatever the settings."""
    return x


@function_rule(
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    "contiguous",
    "detach",
)
def _dropout(low: Lowering, x: Value, *args: Any, training: bool = False, **kwargs: Any) -> Value:
    if training or (len(args) > 1 and args[1] is True):
        raise Unsupported("it drops values in eval mode too; pass training=self.training")
    return x


@function_rule("float")
def _float(low: Lowering, x: Value, **ignored: Any) -> Any:
    return low.cast(x)


@function_rule(torch.clone, "clone")
def _clone(low: Lowering, x: Value, **ignored: Any) -> Value:
    # A value of its own: what is later done in place to the one does not show in the other.
    return low.add("Scale", [x], {"factor": 1.0})
