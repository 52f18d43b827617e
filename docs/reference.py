"""Pages of the API reference: one for each package, with every public name and its docstring."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import snn_lightning

NAMED = (
    "calibration.budget.settings",
    "calibration.budget.start",
    "calibration.walk.context",
    "calibration.walk.network_context",
    "data.images",
    "graph.capture.lowering",
    "graph.capture.values",
    "graph.operators.table",
    "graph.report",
    "graph.schedule",
    "report.compare.methods",
    "report.compare.runs",
    "settings",
    "spiking.report",
    "spiking.simulation",
    "spiking.units",
    "thresholds.errors",
)
"""Modules that say nothing of what is public, and have classes that signatures of public things name."""


def write(folder: Path) -> None:
    """Write the pages; those that are as they were stay untouched, and Sphinx doesn't read them again.

    Args:
        folder: of the pages and an `index.rst`, and of nothing else.
    """
    found, seen = list(modules()), {}
    pages = {f"{module.__name__}.rst": page(module, seen) for module in found}
    names = [
        f"   {module.__name__.partition('.')[2] or 'snn_lightning'} <{module.__name__}>" for module in found
    ]
    pages["index.rst"] = "\n".join([*_title("API reference"), ".. toctree::", "", *names, ""])
    folder.mkdir(exist_ok=True)
    for old in {path.name for path in folder.iterdir()} - set(pages):
        (folder / old).unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def modules() -> Iterator[ModuleType]:
    """Yield the package, its packages with public names, the modules of `analysis`, and `NAMED`."""
    yield snn_lightning
    for info in pkgutil.walk_packages(snn_lightning.__path__, "snn_lightning."):
        name = info.name.removeprefix("snn_lightning.")
        if info.ispkg or name.startswith("analysis.") or name in NAMED:
            module = importlib.import_module(info.name)
            if public(module):
                yield module


def public(module: ModuleType) -> dict[str, Any]:
    """Return the public names of a module: those of its `__all__`, else what it defines itself."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    if hasattr(module, "__path__"):
        return {}
    own = inspect.getmembers(module, lambda thing: getattr(thing, "__module__", None) == module.__name__)
    return {name: thing for name, thing in own if not name.startswith("_")}


def page(module: ModuleType, seen: dict[int, str]) -> str:
    """Return the page of a module.

    Args:
        module: with public names.
        seen: the full name of each thing that a page before has, by identity; gets those of this one.
    """
    here, elsewhere, lines = [], [], []
    for name, thing in public(module).items():
        full = f"{module.__name__}.{name}"
        if id(thing) in seen:
            elsewhere.append(seen[id(thing)])
            continue
        seen[id(thing)] = full
        here.append(f"- :py:obj:`{name}`{_sentence(thing)}")
        lines += [*_directive(full, thing), ""]
    head = [*_title(module.__name__), f".. automodule:: {module.__name__}", "   :no-members:", ""]
    head += [f".. currentmodule:: {module.__name__}", "", *here, ""]
    if elsewhere:
        head += ["Also " + ", ".join(f":py:obj:`{name}`" for name in elsewhere) + ".", ""]
    return "\n".join(head + lines)


def _sentence(thing: Any) -> str:
    """Return what a docstring says first; plain data have none of their own."""
    text = inspect.getdoc(thing) if callable(thing) or inspect.ismodule(thing) else None
    return ": " + " ".join((text or "").split("\n\n")[0].split()) if text else ""


def _directive(name: str, thing: Any) -> list[str]:
    if inspect.ismodule(thing):
        return [f".. automodule:: {thing.__name__}", "   :members:"]
    if inspect.isclass(thing):
        return [f".. autoclass:: {name}", "   :members:"]
    if callable(thing):
        return [f".. autofunction:: {name}"]
    return [f".. py:data:: {name}", f"   :type: {type(thing).__name__}"]


def _title(text: str) -> list[str]:
    return [text, "=" * len(text), ""]
