"""Every example in a docstring runs and gives what it says."""

import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import snn_lightning
from snn_lightning import data, models

ROOT = Path(snn_lightning.__file__).parents[1]
ELSEWHERE = {"create_model", "list_models", "register_model"}
"""The registry of models."""


def modules_with_examples() -> Iterator[str]:
    for path in sorted((ROOT / "snn_lightning").rglob("*.py")):
        if ">>> " in path.read_text():
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(name, exc_type=ModuleNotFoundError)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("room", [data, models])
def test_public_things_have_an_example(room: ModuleType) -> None:
    things = {name: getattr(room, name) for name in set(room.__all__) - ELSEWHERE}
    public = {name: thing for name, thing in things.items() if not inspect.ismodule(thing)}
    assert [name for name, thing in public.items() if ">>> " not in thing.__doc__] == []


def test_a_wrong_example_fails() -> None:
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda text: None).failed == 1
