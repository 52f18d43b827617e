"""Register rules: how a module, function or tensor method is written in the package's vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Rule = Callable[..., Any]
MODULE_RULES: dict[type[nn.Module], Rule] = {}
FUNCTION_RULES: dict[Any, Rule] = {}
"""Rules by function or, for methods of tensors, by name. `capture.rules` fills both tables."""

AnyRule = TypeVar("AnyRule", bound=Callable[..., Any])


def module_rule(*classes: type[nn.Module]) -> Callable[[AnyRule], AnyRule]:
    """Register the rule for calls of modules; it gets the lowering, the module and the arguments."""

    def register(rule: AnyRule) -> AnyRule:
        MODULE_RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def function_rule(*targets: Any) -> Callable[[AnyRule], AnyRule]:
    """Register the rule for calls of functions, or of tensor methods by name."""

    def register(rule: AnyRule) -> AnyRule:
        FUNCTION_RULES.update(dict.fromkeys(targets, rule))
        return rule

    return register
