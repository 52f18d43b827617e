"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import snn_lightning
from snn_lightning import (
    calibration,
    callbacks,
    data,
    graph,
    models,
    spiking,
    synthesis,
    thresholds,
    training,
)
from snn_lightning.graph import operators
from snn_lightning.graph.operators import table
from snn_lightning.models.registry import MODELS
from snn_lightning.spiking import kernels

ROOT = Path(snn_lightning.__file__).parents[1]
ROOMS = (
    calibration,
    callbacks,
    data,
    graph,
    kernels,
    models,
    operators,
    spiking,
    synthesis,
    thresholds,
    training,
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Finder(doctest.DocTestFinder):
    """Looks behind decorators as well, whose functions are of another module."""

    def _from_module(self, module: ModuleType, thing: Any) -> bool:
        return super()._from_module(module, inspect.unwrap(thing) if callable(thing) else thing)


def modules_in(folder: str, having: str = "") -> Iterator[str]:
    for path in sorted((ROOT / "snn_lightning" / folder).rglob("*.py")):
        if having in path.read_text():
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def names_of_examples(module: str) -> frozenset[str]:
    found = Finder().find(importlib.import_module(module))
    return frozenset(example.name for example in found if example.examples)


def without_example(things: dict[str, Any]) -> list[str]:
    functions = {name: inspect.unwrap(thing) for name, thing in things.items()}
    return [
        name
        for name, thing in functions.items()
        if f"{thing.__module__}.{thing.__qualname__}" not in names_of_examples(thing.__module__)
    ]


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an example registers is forgotten after it."""
    for registry in (MODELS, table.OPERATORS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))
    monkeypatch.setattr(table, "_TRAITS", dict(table._TRAITS))


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("name", modules_in("", having=">>> "))
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(name, exc_type=ModuleNotFoundError)
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    with torch.random.fork_rng(devices=[]):
        for example in Finder().find(module):
            torch.manual_seed(0)
            runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("room", [snn_lightning, *ROOMS])
def test_public_things_have_an_example(room: ModuleType) -> None:
    things = {name: getattr(room, name) for name in room.__all__}
    assert without_example({name: thing for name, thing in things.items() if callable(thing)}) == []


@pytest.mark.parametrize("name", modules_in("analysis"))
def test_public_functions_of_the_analysis_have_an_example(name: str) -> None:
    functions = inspect.getmembers(importlib.import_module(name), inspect.isfunction)
    own = {key: f for key, f in functions if f.__module__ == name and not key.startswith("_")}
    own.pop("main", None)
    assert without_example(own) == []


def test_methods_that_a_newcomer_calls_have_an_example() -> None:
    methods = (spiking.SpikingModel.running_mean, spiking.SpikingModel.spikes, spiking.SpikingModel.step)
    assert without_example({method.__name__: method for method in methods}) == []


def test_a_wrong_example_fails() -> None:
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda text: None).failed == 1
