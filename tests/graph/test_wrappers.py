"""The user's module as it comes: compiled, distributed, scripted, in train mode, with any form of input."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from snn_lightning import conversion_report, convert
from snn_lightning.errors import ConversionError
from snn_lightning.graph import normalise

from ..toys import SITES, TOYS, PlainConv, Residual, Signal, Vector, Volume, inputs, toy
from .nets import images
from .test_sites import assert_equal


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def compiled_inside(ann: nn.Module) -> nn.Module:
    ann.features = torch.compile(ann.features, backend="eager")
    ann.head = torch.compile(ann.head, backend="eager")
    return ann


def compiled_in_place(ann: nn.Module) -> nn.Module:
    ann.compile(backend="eager")
    return ann


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "compile": torch.compile,
    "compile in place": compiled_in_place,
    "compile inside": compiled_inside,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "compiled DistributedDataParallel": lambda ann: torch.compile(nn.parallel.DistributedDataParallel(ann)),
    "train mode": lambda ann: ann.train(),
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.usefixtures("process_group")
def test_wrappers_are_taken_off(name: str) -> None:
    ann, x = toy(PlainConv), inputs(PlainConv, 3)
    wrapped = WRAPPERS[name](toy(PlainConv))
    assert_equal(ann, normalise(wrapped, x), x)
    report = conversion_report(wrapped, x)
    assert report.convertible
    assert not any("_orig_mod" in path for _, _, path, _ in report.stages)
    assert report.stages[0][2].startswith("features.")
    assert torch.equal(convert(wrapped, x, 4)(x), convert(ann, x, 4)(x))
    assert not ann.training


def test_the_flags_of_a_network_in_train_mode_are_restored() -> None:
    ann, x = toy(Residual).train(), inputs(Residual, 3)
    ann.norm1.eval()
    flags = {name: module.training for name, module in ann.named_modules()}
    statistics = ann.norm2.running_mean.clone()
    expected = convert(toy(Residual), x, 4)(x)
    assert torch.equal(convert(ann, x, 4)(x), expected)
    assert conversion_report(ann, x).sites == SITES[Residual]
    assert {name: module.training for name, module in ann.named_modules()} == flags
    assert torch.equal(ann.norm2.running_mean, statistics)


@torch.compile
def compiled_function(x: Tensor) -> Tensor:
    return F.relu(x)


class CallsCompiled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return compiled_function(x) * 2


def test_a_compiled_function_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"(?s)can't be traced.*Take torch\.compile off the function"):
        normalise(nn.Sequential(CallsCompiled()), images())


# torch calls them deprecated; they are still around.
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    "script",
    [torch.jit.script, lambda ann: torch.jit.trace(ann, inputs(Vector, 2))],
    ids=["script", "trace"],
)
def test_a_scripted_network_is_refused(script: Callable[[nn.Module], Any]) -> None:
    with pytest.raises(ConversionError, match=r"The model is a scripted module.*Pass the nn.Module it was"):
        normalise(script(toy(Vector)), inputs(Vector, 2))
    inside = nn.Sequential(nn.Linear(10, 10), script(toy(Vector)))
    with pytest.raises(ConversionError, match=r"The module '1' is a scripted module"):
        convert(inside, inputs(Vector, 2), 4)
    assert "scripted module" in conversion_report(inside, inputs(Vector, 2)).problem


@pytest.mark.parametrize("devices", [("meta", "cpu"), ("cpu", "meta"), ("meta", "meta")], ids=str)
def test_another_device_is_refused(devices: tuple[str, str]) -> None:
    ann, x = toy(Vector).to(devices[0]), inputs(Vector, 2).to(devices[1])
    message = "pass real inputs" if devices[1] == "meta" else r"'layers\.0\.weight' is on meta .*move one"
    with pytest.raises(ConversionError, match=message):
        convert(ann, x, 4)


@pytest.mark.parametrize("sample", [{"image": images()}, [images()], "images", None])
def test_a_sample_that_is_no_tensor_is_named(sample: Any) -> None:
    message = f"must be one tensor .*got {type(sample).__name__}.*Wrap the model"
    with pytest.raises(ConversionError, match=message):
        convert(toy(PlainConv), sample, 4)
    report = conversion_report(toy(PlainConv), sample)
    assert f"got {type(sample).__name__}" in report.problem
    assert not report.convertible
    with pytest.raises(ConversionError, match=f"takes one tensor .*, got {type(sample).__name__}"):
        convert(toy(PlainConv), images(), 4)(sample)


def test_a_network_without_a_site_is_refused() -> None:
    ann, x = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)), images()
    with pytest.raises(ConversionError, match=r"has no activation .*Pass the part of the model that"):
        convert(ann, x, 4)
    assert "has no activation" in str(conversion_report(ann, x))


class Divides(nn.Module):
    """Has a site that is NaN where two infinite values meet."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x) * 1e30
        return F.relu(x * 1e30 - x * 1e30)


def test_an_ann_that_is_not_finite_itself_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"ANN itself gives NaN or infinite values at its output"):
        normalise(Divides(), torch.ones(2, 3))


def test_a_site_that_is_never_positive_stays_silent() -> None:
    ann, x = toy(PlainConv), inputs(PlainConv, 4)
    with torch.no_grad():
        ann.features[1].weight.zero_()
        ann.features[1].bias.fill_(-1)
    snn = convert(ann, x, 8)
    first, second = snn.neurons.values()
    assert torch.isfinite(first.v_th).all()
    assert (first.v_th > 0).all()
    trains = list(snn.spikes(x).values())
    assert trains[0].count_nonzero() == 0
    assert trains[1].count_nonzero() > 0
    assert torch.allclose(snn(x), ann(x), atol=0.1)
    assert torch.isfinite(second.v_th).all()


@pytest.mark.parametrize("cls", [Vector, Signal, Volume])
def test_inputs_of_any_number_of_dimensions_convert(cls: type[nn.Module]) -> None:
    ann, x = toy(cls), inputs(cls, 6)
    assert len(TOYS) >= 8
    errors = [((convert(ann, x, t)(x) - ann(x)).norm() / ann(x).norm()).item() for t in (64, 1024)]
    assert errors[1] < 0.01
    assert errors[1] < errors[0]
