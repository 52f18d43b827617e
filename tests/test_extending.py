"""Every example of docs/extending.md runs as it is, in a module of another package."""

import re
import sys
import tomllib
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from snn_lightning import SpikingModel
from snn_lightning.calibration.steps.base import STEPS
from snn_lightning.graph.capture.lowering import FUNCTION_RULES
from snn_lightning.graph.operators import OPERATORS
from snn_lightning.models import create_model
from snn_lightning.models.registry import MODELS
from snn_lightning.plugins import GROUP
from snn_lightning.spiking.conversion import THRESHOLDS
from snn_lightning.spiking.neurons.config import NEURONS
from tests.commands import ROOT
from tests.toys import PlainConv, inputs, toy

PAGE = (ROOT / "docs" / "extending.md").read_text()
REGISTRIES = (MODELS, NEURONS, OPERATORS, STEPS, THRESHOLDS)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of another package, with an ANN and a loader; what it registers is forgotten afterwards."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_things", dict(registry._things))
    module = ModuleType("my_package.things")
    module.ann, module.loader = toy(PlainConv), [inputs(PlainConv)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    rules = dict(FUNCTION_RULES)
    yield module
    FUNCTION_RULES.clear()
    FUNCTION_RULES.update(rules)


def run(section: str, module: ModuleType) -> None:
    """Run the Python of a section of the page as if it stood in `module`."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, f"docs/extending.md, {section}", "exec"), vars(module))


def test_every_section_is_run() -> None:
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert sections == ["A model", "A threshold", "A neuron", "A calibration step", "An operator"]
    assert PAGE.count("```python") == len(sections)


def test_a_model(mine: ModuleType) -> None:
    run("A model", mine)
    for name in ("my_net", "my_package.my_net"):
        net = create_model(name, num_classes=3, in_channels=1, image_size=4, width=2)
        assert net(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_a_threshold(mine: ModuleType) -> None:
    run("A threshold", mine)
    with torch.no_grad():
        x = mine.ann.features[:3](mine.loader[0]).double()
    expected = x.mean((0, 2, 3)) + 3 * x.var((0, 2, 3), correction=0).sqrt()
    neuron = next(iter(mine.snn.neurons.values()))
    torch.testing.assert_close(neuron.v_th.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_neuron(mine: ModuleType) -> None:
    run("A neuron", mine)
    rebuilt = SpikingModel.from_spec(mine.snn.spec())
    assert rebuilt.spec()["conversion"]["neuron"] == {"kind": "my_package.ResetToZero"}
    rebuilt.load_state_dict(mine.snn.state_dict())
    assert torch.equal(rebuilt(mine.loader[0]), mine.snn(mine.loader[0]))
    unit = mine.HardResetNeuron()
    spikes, _ = unit(torch.tensor([[1.7]]), None, 3, static=True)
    # 0.5 + 1.7 fires and is lost; then 1.7 does.
    assert spikes.flatten().tolist() == [1.0, 1.0, 1.0]
    spikes, v = unit(torch.tensor([[0.6]]), None, 3, static=True)
    assert spikes.flatten().tolist() == [1.0, 0.0, 1.0]
    assert v.item() == 0.0


def test_a_step(mine: ModuleType) -> None:
    run("A calibration step", mine)
    record = mine.snn.records[0]["steps"]
    assert list(record) == ["threshold", "bias", "half_bias"]
    assert record["half_bias"]["largest"] > 0
    assert mine.MyPipeline(8).work(10).corrected == 20


def test_an_operator(mine: ModuleType) -> None:
    run("An operator", mine)
    assert "my_package.Flip" in [node.op for node in mine.snn.network.nodes.values()]
    rebuilt = SpikingModel.from_spec(mine.snn.spec())
    rebuilt.load_state_dict(mine.snn.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(rebuilt(x), mine.snn(x))
    assert torch.equal(mine.snn(x.flip(3)).flip(3), mine.snn(x))


def test_the_entry_point_is_of_the_group_that_is_read() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert list(tomllib.loads(text)["project"]["entry-points"]) == [GROUP]
