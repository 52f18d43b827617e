"""The vocabulary of operators that a network is normalised to, with their traits."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from snn_lightning.graph.operators.traits import Traits
from snn_lightning.plugins import Registry

OPERATORS: Registry[type[nn.Module]] = Registry("operator")
"""The operators by the names that descriptions of networks call them by."""

_TRAITS: dict[type[nn.Module], Traits] = {}
_UNKNOWN = Traits()

Operator = TypeVar("Operator", bound=type[nn.Module])


def register_operator(operator: Operator) -> Operator:
    """Add an operator to the vocabulary: a decorator.

    Args:
        operator: a module on tensors `[B, ...]`, without state, built from plain numbers, strings and tuples;
            affine, unless its `traits` say otherwise.

    Returns:
        The class; a class attribute `traits` says what is particular to it.

    Raises:
        SettingsError: its name is taken.

    Example:
        >>> @register_operator
        ... class Flip(nn.Module):
        ...     traits = Traits(moves=True)
        ...     def forward(self, x):
        ...         return x.flip(1)
        >>> traits_of(Flip).moves
        True
    """
    _TRAITS[OPERATORS.register(operator)] = getattr(operator, "traits", Traits())
    return operator


def add_operator(operator: type[nn.Module], traits: Traits) -> None:
    """Add a module that can't say its traits itself, under its own name without a package."""
    _TRAITS[OPERATORS.register(operator, operator.__name__)] = traits


def known_class(module: nn.Module) -> type[nn.Module]:
    """Return the registered class that `module` is, or is a subclass of.

    Example:
        >>> class MyLinear(nn.Linear): ...
        >>> known_class(MyLinear(2, 3)).__name__
        'Linear'
    """
    return next(cls for cls in type(module).__mro__ if cls in _TRAITS)


def traits_of(module: nn.Module | type[nn.Module]) -> Traits:
    """Return what an operator says of itself; of one that is not registered, nothing is particular.

    Example:
        >>> traits_of(nn.Linear).weighted, traits_of(nn.MaxPool2d).pools
        (True, 'max')
    """
    kind = module if isinstance(module, type) else type(module)
    if kind in _TRAITS:
        return _TRAITS[kind]
    return next((_TRAITS[cls] for cls in kind.__mro__ if cls in _TRAITS), _UNKNOWN)


def traits_named(op: str) -> Traits:
    """Return what the operator that is called `op` says of itself.

    Example:
        >>> traits_named("MaxPool2d").pools
        'max'
    """
    return traits_of(OPERATORS.get(op)) if op in OPERATORS else Traits()


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Return the plain settings that rebuild a known `module` through `build`.

    Example:
        >>> settings_of(nn.Linear(2, 3))
        {'in_features': 2, 'out_features': 3, 'bias': True}
    """
    traits = traits_of(module)
    settings = {key: getattr(module, key) for key in traits.settings}
    if traits.weighted:
        settings["bias"] = module.bias is not None
    return settings


def build(op: str, settings: dict[str, Any]) -> nn.Module:
    """Build the operator called `op`, with fresh parameters where it has any.

    Example:
        >>> build("Linear", {"in_features": 2, "out_features": 3, "bias": False})
        Linear(in_features=2, out_features=3, bias=False)
    """
    return OPERATORS.get(op)(**settings)
