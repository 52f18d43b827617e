import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from snn_lightning.errors import SettingsError
from snn_lightning.models import create_model
from snn_lightning.models.imported import code_fingerprint
from snn_lightning.training import ClassificationModule, load_weights
from tests.own_nets import MyNet

SIZES = {"num_classes": 10, "in_channels": 1, "image_size": 8}
BROKEN = "def build(num_classes):\n    return undefined\n"


def create(target: str | None, **settings: object) -> nn.Module:
    return create_model(str(target), source="import", **{**SIZES, "target": target, **settings})


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a user, with a package and a module in it."""
    (tmp_path / "own_package").mkdir()
    for name, text in (
        ("own_package/__init__.py", "from .nets import SmallNet\n"),
        ("own_package/nets.py", "from tests.own_nets import MyNet\n\nclass SmallNet(MyNet): pass\n"),
        ("own_broken.py", BROKEN),
        ("own_syntax.py", "def build(:\n"),
        ("own_import.py", "import a_module_that_is_missing\n"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize("target", ["own_package.SmallNet", "own_package.nets.SmallNet"])
def test_a_class_in_the_working_directory_gets_sizes_and_settings(own: Path, target: str) -> None:
    net = create(target, width=3)
    assert type(net).__name__ == "SmallNet"
    assert net.features[0].weight.shape == (3, 1, 3, 3)
    assert net.head.out_features == 10
    assert all(module.training for module in net.modules())
    # The trial run in eval mode has left no trace.
    assert torch.equal(net.features[1].running_mean, torch.zeros(3))


def test_a_function_gets_the_sizes_that_it_takes() -> None:
    assert create("tests.own_nets.flat", bias=False)[1].weight.shape == (10, 64)
    # What takes anything is not given what it may not know.
    assert create("tests.own_nets.loose", num_classes=4, in_channels=3).head.out_features == 4


def test_its_relus_become_what_a_pipeline_needs() -> None:
    net = create("tests.own_nets.MyNet", activation={"name": "qcfs", "levels": 2})
    assert not any(isinstance(module, nn.ReLU) for module in net.modules())


NETS = "tests.own_nets"


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        (None, {}, r"model\.target is missing: .*model\.target=my_package\.MyNet"),
        ("MyNet", {}, "model.target='MyNet' is no module and name joined by dots"),
        ("nets/my.py", {}, "is no module and name joined by dots"),
        ("own_packge.Net", {}, "'own_packge'; did you mean 'own_package'.*folder that holds it.*PYTHONPATH"),
        ("own_package.net.SmallNet", {}, r"name in own_package .*: 'net'; did you mean 'nets'"),
        ("own_package.SmalNet", {}, r"own_package .*__init__.py.*did you mean 'SmallNet'.*There is: .*nets"),
        ("own_package.nets", {}, "is of type module, which builds nothing: name the class"),
        (
            "own_import.build",
            {},
            "importing own_import fails: .*a_module_that_is_missing.*line 1.*FULL_ERROR",
        ),
        ("own_syntax.build", {}, r"importing own_syntax fails: SyntaxError: .*own_syntax\.py, line 1"),
        (
            "own_broken.build",
            {},
            r"own_broken\.build\(num_classes=10\) fails: NameError: .*broken\.py, line 2",
        ),
        (f"{NETS}.broken", {}, r"broken\(num_classes=10\) fails: KeyError: 'depth' \(own_nets\.py"),
        (f"{NETS}.WIDTH", {}, "WIDTH is of type int, which builds nothing"),
        (f"{NETS}.finished", {}, "finished is a finished network, which builds nothing"),
        (f"{NETS}.number", {}, "number returned a value of type int and no nn.Module"),
        ("builtins.dict", {}, "dict returned a value of type dict and no nn.Module"),
        (f"{NETS}.MyNet", {"widht": 3}, r"setting of tests\.own_nets\.MyNet: 'widht'; did you mean 'width'"),
        (f"{NETS}.loose", {"widht": 3}, r"loose\(widht=3\) fails: TypeError: .*widht"),
        (f"{NETS}.flat", {}, r"flat needs bias: add \+model\.bias="),
        (f"{NETS}.loose", {}, r"can't classify images \[2, 1, 8, 8\]: .*3 channels.*take in_channels"),
        (f"{NETS}.loose", {"in_channels": 3}, r"gives \[2, 4\] for 2 images and not \[2, 10\].*num_classes"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(
    own: Path, target: str | None, settings: dict, message: str
) -> None:
    with pytest.raises(SettingsError, match=f"(?s){message}"):
        create(target, **settings)


def test_the_sizes_come_from_the_data() -> None:
    model = {"source": "import", "name": "net", "target": "tests.own_nets.MyNet", "num_classes": 3}
    with pytest.raises(SettingsError, match=r"model\.num_classes comes from the data: set data\.num_classes"):
        ClassificationModule(model, **SIZES)


def test_code_fingerprint_follows_the_file_of_each_class(own: Path) -> None:
    target = "own_package.nets.SmallNet"
    net = create(target)
    first = code_fingerprint(target, net)
    assert first == code_fingerprint(target, create(target, width=3))
    assert first != code_fingerprint("tests.own_nets.MyNet", MyNet(10))
    with open(own / "own_package" / "nets.py", "a") as file:
        file.write("\nFACTOR = 2\n")
    assert first != code_fingerprint(target, net)


def test_a_checkpoint_loads_by_the_path_that_it_holds(tmp_path: Path) -> None:
    model = {"source": "import", "name": "net", "target": "tests.own_nets.MyNet", "width": 3}
    module = ClassificationModule(model, **SIZES, class_names=list("abcdefghij"))
    hyper = dict(module.hparams)
    assert hyper["class_names"] == list("abcdefghij")
    other = ClassificationModule(**hyper)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    load_weights(other, tmp_path / "net.pt")
    assert torch.equal(other.net.head.weight, module.net.head.weight)
