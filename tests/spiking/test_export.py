"""A spiking network as one graph: exported, compiled, in ONNX and under `torch.func`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.nn import functional as F

from snn_lightning import IF, Burst, Parallel, Signed, SpikingModel, Switch, convert
from snn_lightning.spiking.kernels import operators
from snn_lightning.spiking.neurons.config import Neuron
from tests.toys import Dense, MaxPooled, Residual, Signal, Vector, Volume, inputs, toy
from tests.versions import TORCH

needs_graphs = pytest.mark.skipif(TORCH < (2, 9), reason="PyTorch before 2.9 traces less of Python")

KINDS = [IF(), Signed(), Burst(3), Parallel(), Switch()]
SURROGATES = KINDS[:-1]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Let no test count as another graph of the one before: their number is limited."""
    yield
    torch.compiler.reset()


class Dyadic(nn.Module):
    """Convolutions, a gate, a residual sum and a view that is read twice; see `dyadic`. 3 sites, 1 gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.conv3 = nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.conv3(F.relu(x + self.conv2(x))).flatten(1)
        return self.head(x.relu() - x)


def dyadic(kind: Neuron) -> tuple[SpikingModel, Tensor]:
    """Return an SNN and inputs whose numbers are small multiples of powers of two: every sum is exact."""
    generator = torch.Generator().manual_seed(0)
    ann = Dyadic().eval()
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.copy_(torch.randint(-4, 5, parameter.shape, generator=generator) / 8)
    x = torch.randint(-8, 9, (7, 3, 8, 8), generator=generator) / 4
    snn = convert(ann, x, timesteps=4, neuron=kind)
    for neuron in snn.neurons.values():
        neuron.set_threshold(0.5 * 2.0 ** torch.arange(len(neuron.v_th)).remainder(3), "potential", 4)
    return snn, x


def exported(snn: SpikingModel, x: Tensor) -> nn.Module:
    images = torch.export.Dim("images")
    return torch.export.export(snn, (x,), dynamic_shapes=({0: images},)).module()


@needs_graphs
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_exported_network_is_equal_for_any_number_of_images(kind: Neuron) -> None:
    snn, x = dyadic(kind)
    program = exported(snn, x[:3])
    assert snn(x).unique().numel() > 10
    assert torch.equal(program(x), snn(x))
    assert torch.equal(program(x.repeat(5, 1, 1, 1)), snn(x).repeat(5, 1))


@needs_graphs
@pytest.mark.parametrize("cls", [Dense, Signal, Volume, Vector])
def test_networks_of_any_dimensions_are_exported(cls: type[nn.Module]) -> None:
    x = inputs(cls, 5)
    snn = convert(toy(cls), x, 3)
    assert torch.equal(exported(snn, x[:2])(x), snn(x))


@needs_graphs
@pytest.mark.parametrize("kind", [IF(), Signed(), Parallel(), Switch()], ids=str)
def test_a_compiled_network_is_equal(kind: Neuron) -> None:
    snn, x = dyadic(kind)
    compiled = torch.compile(snn, fullgraph=True, backend="eager", dynamic=True)
    assert torch.equal(compiled(x), snn(x))
    assert torch.equal(compiled(x[:2]), snn(x[:2]))


@needs_graphs
def test_compiled_spikes_are_equal() -> None:
    x = inputs(MaxPooled, 4)
    snn = convert(toy(MaxPooled), x, 5)
    compiled = torch.compile(snn.spikes, fullgraph=True, backend="eager")(x)
    for name, train in snn.spikes(x).items():
        assert torch.equal(compiled[name], train)


@needs_graphs
def test_a_compiled_network_keeps_its_precision() -> None:
    x = inputs(Residual, 3)
    snn = convert(toy(Residual), x, 3)
    snn.precision = "bf16"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled = torch.compile(snn, fullgraph=True, backend="eager")(x)
    assert torch.equal(compiled, snn(x))


@needs_graphs
@pytest.mark.slow
def test_inductor_is_equal() -> None:
    snn, x = dyadic(IF())
    assert torch.equal(torch.compile(snn, fullgraph=True)(x), snn(x))


def training(snn: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(snn(x).square().sum(), list(snn.parameters()))


@needs_graphs
@pytest.mark.parametrize("kind", [IF(), Signed(), Parallel()], ids=str)
def test_a_compiled_network_has_equal_gradients(kind: Neuron) -> None:
    snn, x = dyadic(kind)
    snn.requires_grad_(True)
    compiled = torch.compile(snn, fullgraph=True, backend="aot_eager")
    for ours, expected in zip(training(compiled, x), training(snn, x), strict=True):
        assert expected.count_nonzero() > 0
        torch.testing.assert_close(ours, expected)


def in_onnx(path: Path, x: Tensor) -> Tensor:
    """Return the output of a network that was exported to ONNX."""
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(result)


@needs_graphs
@pytest.mark.parametrize("kind", [Signed(), Parallel(), Switch()], ids=str)
def test_onnx_is_equal_for_any_number_of_images(kind: Neuron, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    snn, x = dyadic(kind)
    shapes: Any = ({0: "images"},)
    torch.onnx.export(snn, (x[:2],), tmp_path / "snn.onnx", dynamo=True, dynamic_shapes=shapes)
    assert torch.equal(in_onnx(tmp_path / "snn.onnx", x), snn(x))


@needs_graphs
def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    page = (Path(__file__).parents[2] / "docs/lightning.md").read_text()
    section = page.split("## Compile, export, ONNX\n")[1]
    snn, x = dyadic(IF())
    names: dict[str, Any] = {"snn": snn, "x": x[:2], "torch": torch}
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0], names)
    own = torch.ops.snn_lightning.simulate.default
    for name, held in (("program", True), ("plain", False)):
        program = names[name]
        assert torch.equal(program.module()(x), snn(x))
        assert any(node.target is own for node in program.graph.nodes) is held
    assert torch.equal(in_onnx(tmp_path / "snn.onnx", x), snn(x))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_network_can_be_mapped_over_images_and_thresholds(kind: Neuron) -> None:
    snn, x = dyadic(kind)
    assert torch.equal(vmap(lambda image: snn(image[None])[0])(x), snn(x))
    state, name = snn.state_dict(), f"units.{list(snn.neurons)[-1]}.v_th"
    thresholds = torch.stack([state[name], 2 * state[name]])
    outputs = vmap(lambda v_th: functional_call(snn, {name: v_th}, (x,)))(thresholds)
    assert torch.equal(outputs[0], snn(x))
    assert torch.equal(outputs[1], functional_call(snn, {name: thresholds[1]}, (x,)))
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("kind", SURROGATES, ids=str)
def test_gradients_of_each_image_add_up_to_those_of_all(kind: Neuron) -> None:
    snn, x = dyadic(kind)
    parameters = dict(snn.named_parameters())

    def loss(values: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(snn, values, (images,)).square().sum()

    together = grad(loss)(parameters, x)
    each = vmap(grad(lambda values, image: loss(values, image[None])), (None, 0))(parameters, x)
    for expected, (name, value) in zip(training(snn.requires_grad_(True), x), together.items(), strict=True):
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(each[name].sum(0), expected)


def test_what_has_no_derivative_says_so() -> None:
    snn, x = dyadic(IF())
    with pytest.raises(NotImplementedError, match="jvp function"):
        jvp(snn, (x,), (x,))
    with pytest.raises(NotImplementedError, match="jvp function"):
        hessian(lambda images: snn(images).sum())(x[:1])
    x.requires_grad_()
    (first,) = torch.autograd.grad(snn(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"snn_lightning\.gradients.* no autograd formula"):
        first.sum().backward()


@pytest.mark.parametrize("lowest", [0, -1])
def test_the_operators_are_what_they_say(lowest: int) -> None:
    torch.manual_seed(0)
    current = torch.randn(3, 2, 5, 5, 4).movedim(-1, -3)
    state = torch.rand((2, 4, 1, 1) if lowest < 0 else (4, 1, 1))
    tensors = (current, state, torch.rand(4, 1, 1) + 0.5, torch.rand(4, 1, 1))
    settings = (False, lowest, 1)
    spikes, end = operators.simulate(*tensors, 3, *settings)
    torch.library.opcheck(operators.simulate, (*(x.requires_grad_() for x in tensors), 3, *settings))
    gradients = (spikes, torch.rand_like(spikes), end[0] if lowest < 0 else end)
    torch.library.opcheck(operators.gradients, (*(x.detach() for x in (*tensors, *gradients)), *settings))


@pytest.mark.parametrize(("lowest", "highest"), [(0, 1), (-1, 1), (0, 3), (-2, 2)])
@pytest.mark.parametrize("static", [False, True])
def test_unrolled_spikes_are_equal(lowest: int, highest: int, static: bool) -> None:
    torch.manual_seed(0)
    current = 2 * torch.randn(*(() if static else (5,)), 2, 4, 6, 6)
    state = torch.rand((2, 4, 1, 1) if lowest < 0 else (4, 1, 1))
    arguments = (current, state, torch.rand(4, 1, 1) + 0.5, torch.rand(4, 1, 1), 5, static, lowest, highest)
    for got, expected in zip(operators.unrolled(*arguments), operators.simulate(*arguments), strict=True):
        assert torch.equal(got, expected)
