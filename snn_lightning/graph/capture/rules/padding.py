"""Padding of every mode, as modules and as a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn import functional as F

from snn_lightning.graph.capture.lowering import Lowering, Value
from snn_lightning.graph.capture.registry import function_rule, module_rule

_MODES: dict[str, tuple[type[nn.Module], ...]] = {
    "reflect": (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    "replicate": (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    "circular": (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
}


@function_rule(F.pad)
def _pad(
    low: Lowering, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Value:
    low.result_shape()
    settings: dict[str, Any] = {"pad": tuple(pad), "value": float(value or 0.0)}
    return low.add("Pad", [x], settings if mode == "constant" else {**settings, "mode": mode})


@module_rule(
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
    nn.ConstantPad1d,
    nn.ConstantPad2d,
    nn.ConstantPad3d,
)
def _constant_pad_module(low: Lowering, module: Any, x: Value) -> Value:
    return _pad(low, x, module.padding, "constant", module.value)


@module_rule(*(cls for classes in _MODES.values() for cls in classes))
def _pad_module(low: Lowering, module: Any, x: Value) -> Value:
    mode = next(mode for mode, classes in _MODES.items() if isinstance(module, classes))
    return _pad(low, x, module.padding, mode)
