"""What other packages add is found by name: registered once, qualified, and imported when it is missed."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from snn_lightning import LCP, MMSE, Bias, Burst, convert, save_converted
from snn_lightning.calibration.steps.base import STEPS
from snn_lightning.errors import SettingsError
from snn_lightning.models.registry import MODELS
from snn_lightning.models.resnet import resnet20
from snn_lightning.plugins import Registry
from snn_lightning.spiking.checkpoint import KEY
from snn_lightning.spiking.conversion import THRESHOLDS
from snn_lightning.spiking.neurons.config import NEURONS
from tests.toys import PlainConv, inputs, toy

OURS = [(MODELS, resnet20), (NEURONS, Burst), (THRESHOLDS, MMSE), (STEPS, Bias)]


@pytest.mark.parametrize(("registry", "thing"), OURS, ids=lambda value: getattr(value, "kind", None))
def test_ours_have_their_bare_names_and_no_name_is_taken_twice(registry: Registry, thing: Any) -> None:
    assert registry.name_of(thing) == thing.__name__
    assert registry.get(thing.__name__) is thing
    with pytest.raises(SettingsError, match=f"{registry.kind} '{thing.__name__}' is registered already"):
        registry.register(thing)
    ours = [name for name in registry if registry.get(name).__module__.startswith("snn_lightning.")]
    assert len(ours) > 2
    assert all("." not in name for name in ours)


def from_package(package: str) -> type:
    """Return a class of settings as a module of another package would define it."""

    @dataclass(frozen=True)
    class Wide:
        spikes: int = 1

    Wide.__module__, Wide.__qualname__ = package, "Wide"
    return Wide


def test_a_bare_name_is_that_of_the_only_package_that_has_it() -> None:
    """Checkpoints of formats 1 to 3 name a kind of neuron of another package without it."""
    registry: Registry[type] = Registry("neuron")
    one = registry.register(from_package("one"))
    assert registry.name_of(one) == "one.Wide"
    assert registry.get("one.Wide") is registry.get("Wide") is one
    assert "Wide" in registry
    assert "two.Wide" not in registry
    assert "ide" not in registry
    registry.register(from_package("two"))
    with pytest.raises(SettingsError, match=r"neuron 'Wide' may be one\.Wide or two\.Wide: name the package"):
        registry.get("Wide")
    assert registry.get("one.Wide") is one
    ours = registry.register(from_package("snn_lightning"))
    assert registry.get("Wide") is ours


def test_what_a_script_has_saved_is_found_where_it_is_imported() -> None:
    registry: Registry[type] = Registry("neuron")
    registry.register(from_package("__main__"))
    # A notebook's cell runs again.
    assert registry.name_of(registry.register(from_package("__main__"))) == "__main__.Wide"
    elsewhere: Registry[type] = Registry("neuron")
    imported = elsewhere.register(from_package("train"))
    assert elsewhere.get("__main__.Wide") is imported


def test_what_is_not_registered_names_the_remedy() -> None:
    registry: Registry[type] = Registry("neuron")
    wide = from_package("one")
    with pytest.raises(SettingsError, match=r"neuron one\.Wide is not registered: put @register_neuron on"):
        registry.describe(wide())
    registry.register(wide)
    with pytest.raises(SettingsError, match=r"unknown neuron: 'one\.Wise'; did you mean 'one\.Wide'\?"):
        registry.get("one.Wise")
    for damaged in ({}, {"kind": 3}, {"kind": ["one.Wide"]}, {"kind": "one.Wide", "spikes": 1, "more": 2}):
        with pytest.raises(SettingsError, match=r"neuron"):
            registry.restore(damaged)


EXTRAS = """
from dataclasses import dataclass
from torch import nn
from snn_lightning.calibration import Step, register_step
from snn_lightning.models import register_model
from snn_lightning.spiking import IFNeuron, Neuron, register_neuron

@register_neuron
@dataclass(frozen=True)
class Plain(Neuron):
    number: int = 1
    def build(self):
        return IFNeuron()

@register_model
def tiny(*, num_classes, in_channels, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
"""

LOAD = """
import sys
import torch
from snn_lightning import load_converted
from snn_lightning.models import create_model

for name, path in zip(("snn_extras.Plain", "Plain"), sys.argv[1:], strict=True):
    snn = load_converted(path)
    assert type(snn.neuron).__module__ == "snn_extras", snn.neuron
    neuron = snn.spec()["conversion"]["neuron"]
    assert neuron == {"kind": "snn_extras.Plain", "number": 5}, neuron
for name in ("tiny", "snn_extras.tiny"):
    print(create_model(name, num_classes=2, in_channels=1, image_size=2)(torch.ones(1, 1, 2, 2)).shape)
"""


def write_package(folder: Path) -> None:
    """Write what an installer would: two packages with entry points, one of which can't be imported."""
    for name, code in (("snn_broken", "import nothing_of_this_name"), ("snn_extras", EXTRAS)):
        (folder / f"{name}.py").write_text(code)
        (folder / f"{name}-1.0.dist-info").mkdir()
        (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
        entry = f"[snn_lightning]\n{name} = {name}\n"
        (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(entry)


def test_a_checkpoint_is_loaded_without_importing_the_package_of_its_neurons(tmp_path: Path) -> None:
    write_package(tmp_path)
    snn, paths = convert(toy(PlainConv), inputs(PlainConv, 2), 4), []
    for number, kind in enumerate(("snn_extras.Plain", "Plain")):
        paths.append(tmp_path / f"{number}.ckpt")
        save_converted(snn, paths[-1])
        checkpoint = torch.load(paths[-1], weights_only=True)
        checkpoint[KEY]["spec"]["conversion"]["neuron"] = {"kind": kind, "number": 5}
        del checkpoint[KEY]["digest"]
        torch.save(checkpoint, paths[-1])
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["torch.Size([1, 2])"] * 2
    message = "The module 'snn_broken', which adds to snn_lightning, can't be imported (ModuleNotFoundError"
    assert done.stderr.count(message) == 1


def test_a_subclass_of_ours_has_a_name_of_its_own() -> None:
    @dataclass(frozen=True)
    class Own(Bias):
        pass

    with pytest.raises(SettingsError, match=r"step tests\..*Own is not registered: put @register_step"):
        LCP(4, bias=Own())
