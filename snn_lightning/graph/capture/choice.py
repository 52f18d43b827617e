"""Which modules and operators the user leaves analog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from snn_lightning.errors import ConversionError, unknown
from snn_lightning.graph.settings import AUTO, patterns


class Choice:
    """What `analog` says, and what a conversion finds out about it.

    Args:
        analog: patterns; see `GraphSettings`.

    Attributes:
        auto: whether all that has no spiking form is left analog.
        leaves: qualified names of the modules that are left analog as a whole.
        tail: names of the traced calls that are left analog because nothing but the output is behind them.
    """

    def __init__(self, analog: str | Sequence[str] = ()) -> None:
        given = patterns(analog)
        self.patterns, self.auto = [p for p in given if p != AUTO], AUTO in given
        self.leaves: set[str] = set()
        self.tail: set[str] = set()
        self._opaque: set[str] = set()
        self._met: set[str] = set()
        self._names: dict[int, list[str]] = {}
        self._paths: list[str] = []

    @property
    def leaves_any(self) -> bool:
        """Whether anything may be left analog."""
        return bool(self.auto or self.patterns or self.tail)

    def see(self, model: nn.Module) -> None:
        """Note under which names `model` has its modules; a shared one has several."""
        self._names.clear()
        for name, module in model.named_modules(remove_duplicate=False):
            self._names.setdefault(id(module), []).append(name)
        self._paths = [name for names in self._names.values() for name in names if name]

    def takes(self, *names: str) -> bool:
        """Whether a pattern matches one of the names of what is called."""
        self._met.update(names)
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.patterns)

    def takes_module(self, module: nn.Module, path: str) -> bool:
        """Whether a module, called by the qualified name `path`, is left analog as a whole."""
        names = (*self._names.get(id(module), [path]), type(module).__name__)
        if self.takes(*names) or path in self._opaque:
            self.leaves.add(path)
        return path in self.leaves

    def widen(self, paths: Iterable[str]) -> bool:
        """Leave the smallest modules analog that have the obstacles in `paths`; whether that may help."""
        found = {self._around(path) for path in paths} if self.auto else {""}
        if not found or "" in found:
            return False
        self._opaque |= found
        return True

    def _around(self, path: str) -> str:
        while path in self._opaque:
            path = path.rpartition(".")[0]
        return path

    def check(self) -> None:
        """Refuse a pattern that has matched nothing.

        Raises:
            ConversionError: names it, and what it may have been.
        """
        for pattern in self.patterns:
            if _matching(pattern, self._met):
                continue
            modules = _matching(pattern, self._paths)
            if not modules:
                raise ConversionError(unknown("analog pattern", pattern, self._met.union(self._paths)))
            if not any(path.startswith(f"{leaf}.") for path in modules for leaf in self.leaves):
                raise ConversionError(
                    f"analog={pattern!r} names the module '{modules[0]}', which forward never calls; name "
                    "one that it calls, or an operator as the report prints it."
                )


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if fnmatchcase(name, pattern)]
