"""Names that packages add: a registry of each kind of thing, and the entry points that fill it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from snn_lightning.errors import SettingsError, unknown

GROUP = "snn_lightning"
"""Entry points of this group name modules that register something; imported when a name is missed."""

Thing = TypeVar("Thing", bound=Callable[..., Any])


@cache
def load_plugins() -> None:
    """Import every module that an installed package names in the group `snn_lightning`, once.

    One that fails is warned of and left out: what is looked for may be in another.
    """
    for entry_point in entry_points(group=GROUP):
        try:
            entry_point.load()
        except Exception as error:
            warnings.warn(
                f"The module {entry_point.value!r}, which adds to snn_lightning, can't be imported "
                f"({error!r}): repair or uninstall its package.",
                stacklevel=2,
            )


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

    def register(self, thing: Thing, name: str | None = None) -> Thing:
        """Add a class or function, under its qualified name by default, and return it: a decorator.

        Raises:
            SettingsError: its name is taken.

        Example:
            >>> shapes = Registry("shape")
            >>> @shapes.register
            ... def circle(): ...
            >>> list(shapes)
            ['circle']
        """
        name = name or qualified_name(thing)
        # A notebook's cells may run again.
        if name in self._things and thing.__module__ != "__main__":
            raise SettingsError(f"{self.kind} {name!r} is registered already; give it another name")
        self._things[name] = thing
        return thing

    def name_of(self, thing: Any) -> str:
        """Return the name under which a class or function is registered.

        Raises:
            SettingsError: it is not.
        """
        for name, registered in self._things.items():
            if registered is thing:
                return name
        raise SettingsError(
            f"{self.kind} {qualified_name(thing)} is not registered: put @register_{self.kind} on its class"
        )

    def get(self, name: str) -> Thing:
        """Return what is registered as `name`, after a look at the installed packages' entry points.

        A name without its package, as older checkpoints have it, is that of the only one that ends so.

        Raises:
            SettingsError: nothing is, or several are.
        """
        found = self._found(name)
        if len(found) > 1:
            raise SettingsError(f"{self.kind} {name!r} may be {' or '.join(found)}: name the package too")
        if not found:
            raise SettingsError(unknown(self.kind, name, self._things))
        return self._things[found[0]]

    def _found(self, name: str) -> list[str]:
        if found := self._ending(name):
            return found
        load_plugins()
        return self._ending(name)

    def _ending(self, name: str) -> list[str]:
        if name in self._things:
            return [name]
        # A script's own things have another package where the script is imported.
        last = name.removeprefix("__main__.")
        return [full for full in self._things if full.rpartition(".")[2] == last]

    def describe(self, settings: Any) -> dict[str, Any]:
        """Return settings, a dataclass that is registered, as plain numbers and strings.

        Raises:
            SettingsError: its class is not registered.
        """
        return {"kind": self.name_of(type(settings)), **asdict(settings)}

    def restore(self, description: Mapping[str, Any]) -> Any:
        """Return the settings that `describe` described.

        Raises:
            SettingsError: their class or its fields are not known here.
        """
        settings = dict(description)
        try:
            return self.get(str(settings.pop("kind")))(**settings)
        except (KeyError, TypeError) as error:
            raise SettingsError(f"{self.kind} {dict(description)!r} is not known here ({error!r})") from error

    def __contains__(self, name: str) -> bool:
        return bool(self._found(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)
