"""Names that packages add: a registry of each kind of thing, and the entry points that fill it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from snn_lightning.errors import SettingsError, unknown

GROUP = "snn_lightning"
"""Entry points of this group name modules that register something; imported when a name is missed."""

Thing = TypeVar("Thing", bound=Callable[..., Any])


@cache
def load_plugins() -> None:
    """Import every module that an installed package names in the group `snn_lightning`, once."""
    for entry_point in entry_points(group=GROUP):
        entry_point.load()


def qualified_name(thing: Any) -> str:
    """Return a class or function's name behind its package, `other_package.Burst`; our own go without."""
    package, own = thing.__module__.partition(".")[0], __name__.partition(".")[0]
    return str(thing.__qualname__) if package == own else f"{package}.{thing.__qualname__}"


class Registry(Generic[Thing]):
    """The classes or functions of one kind by their qualified names.

    Args:
        kind: what they are, for messages and for the name of the decorator, `register_<kind>`.

    Example:
        >>> shapes = Registry("shape")
        >>> @shapes.register
        ... def square(): ...
        >>> shapes.name_of(square) in shapes
        True
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, Thing] = {}

    def register(self, thing: Thing) -> Thing:
        """Add a class or function and return it: a decorator.

        Raises:
            SettingsError: its name is taken.
        """
        name = qualified_name(thing)
        if name in self._things:
            raise SettingsError(f"{self.kind} {name!r} is registered already; give it another name")
        self._things[name] = thing
        return thing

    def name_of(self, thing: Thing) -> str:
        """Return the name under which a class or function is registered.

        Raises:
            SettingsError: it is not.
        """
        name = qualified_name(thing)
        if self._things.get(name) is not thing:
            raise SettingsError(f"{self.kind} {name} is not registered: put @register_{self.kind} on it")
        return name

    def get(self, name: str) -> Thing:
        """Return what is registered as `name`, after a look at the installed packages' entry points.

        Raises:
            SettingsError: nothing is.
        """
        if name not in self._things:
            load_plugins()
        if name not in self._things:
            raise SettingsError(unknown(self.kind, name, sorted(self._things)))
        return self._things[name]

    def describe(self, settings: Any) -> dict[str, Any]:
        """Return an instance of a registered dataclass as plain values: its class's name and its fields."""
        return {"kind": self.name_of(cast(Thing, type(settings))), **asdict(settings)}

    def restore(self, description: Mapping[str, Any]) -> Any:
        """Return the instance that `describe` described.

        Raises:
            SettingsError: its class or its fields are not known here.
        """
        values = dict(description)
        try:
            return self.get(values.pop("kind"))(**values)
        except (KeyError, TypeError) as error:
            raise SettingsError(f"{self.kind} {dict(description)!r} is not known here ({error!r})") from error

    def __contains__(self, name: str) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)
