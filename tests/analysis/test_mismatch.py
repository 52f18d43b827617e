"""The parts of the error against numbers by hand."""

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import ACP, IF, LCP, Burst, Pipeline, Signed, SpikingModel, calibrate, convert
from snn_lightning.analysis.mismatch import Parts, StageMismatch, measure_mismatch
from snn_lightning.errors import SettingsError
from snn_lightning.graph import normalise, prepare
from snn_lightning.spiking import Neuron
from tests.toys import AS_GIVEN

from ..spiking.older import older_spec
from ..toys import TOYS, MaxPooled, PlainConv, Residual, Vector, inputs, toy


def linear(*rows: list[float]) -> nn.Linear:
    weight = torch.tensor(rows)
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight, torch.zeros(len(rows))
    return layer


def single(x: list[float], neuron: Neuron | None = None, rounding: str = "potential") -> tuple:
    """A site whose activations are `x`, T=2, threshold 1, and a readout of weight 1."""
    eye = torch.eye(len(x)).tolist()
    ann = nn.Sequential(linear(*eye), nn.ReLU(), linear(*eye))
    images = torch.tensor([x])
    snn = convert(ann, images, 2, neuron=neuron, rounding=rounding)
    site(snn).set_threshold(torch.ones(len(x)), rounding, 2)
    return ann, snn, images


def site(snn: SpikingModel, number: int = 0) -> nn.Module:
    return list(snn.neurons.values())[number]


def split(ann: nn.Module, snn: SpikingModel, images: Tensor, number: int = 0) -> StageMismatch:
    return measure_mismatch(ann, snn, images).stages[number]


def alone(part: str, value: float) -> tuple[list[float], list[float], float]:
    """Shares, norms and total of a stage whose error is one part only."""
    numbers = [value if name == part else 0.0 for name in ("clipping", "quantisation", "input", "unevenness")]
    return pytest.approx(numbers), pytest.approx(numbers), pytest.approx(value)


def numbers(stage: StageMismatch) -> tuple[list[float], list[float], float]:
    return list(stage.shares), list(stage.norms), stage.total


@pytest.mark.parametrize("neuron", [IF(), Signed()], ids=str)
def test_a_neuron_that_only_clips(neuron: Neuron) -> None:
    # x = 1.5 and 0.5, the rates are 1 and 0.5.
    found = split(*single([1.5, 0.5], neuron))
    assert numbers(found) == alone("clipping", 0.25 / 2.5)


def test_bursts_clip_later() -> None:
    assert numbers(split(*single([1.5, 0.5], Burst(2)))) == alone("clipping", 0.0)
    # 2.5 is clipped to 2.
    assert numbers(split(*single([2.5, 0.5], Burst(2)))) == alone("clipping", 0.25 / 6.5)


@pytest.mark.parametrize(("rounding", "rate"), [("potential", 0.5), ("bias", 0.5), ("floor", 0.0)])
@pytest.mark.parametrize("neuron", [IF(), Signed(), Burst(3)], ids=str)
def test_a_neuron_that_only_rounds(neuron: Neuron, rounding: str, rate: float) -> None:
    found = split(*single([0.3], neuron, rounding))
    assert numbers(found) == alone("quantisation", (0.3 - rate) ** 2 / 0.09)


@pytest.mark.parametrize("what", ["weight", "synapse's bias", "bias", "potential"])
def test_a_current_that_is_shifted(what: str) -> None:
    ann, snn, images = single([0.5])
    synapse, unit = next(iter(snn.network.operators.values())), site(snn)
    if what == "weight":
        synapse.weight.data *= 2
    elif what == "synapse's bias":
        synapse.bias.data += 0.5
    elif what == "bias":
        unit.bias += 0.5
    else:
        unit.v_init += 2 * 0.5
    report = measure_mismatch(ann, snn, images)
    assert numbers(report.stages[0]) == alone("input", 1.0)
    # The readout gets 1 instead of 0.5.
    assert numbers(report.stages[1]) == alone("input", 1.0)


def uneven(neuron: Neuron) -> tuple[nn.Module, SpikingModel, Tensor]:
    """Two neurons that fire at t=1 and at t=2; behind them currents [2, -2] and [1, 0], T=2, threshold 1."""
    ann = nn.Sequential(
        linear([1.0], [1.0]), nn.ReLU(), linear([2.0, -2.0], [1.0, 0.0]), nn.ReLU(), linear([1.0, 1.0])
    )
    images = torch.tensor([[0.5]])
    snn = convert(ann, images, 2, neuron=neuron)
    for unit in snn.neurons.values():
        unit.set_threshold(torch.ones(2), "potential", 2)
    site(snn).v_init = torch.tensor([0.5, 0.0])
    return ann, snn, images


@pytest.mark.parametrize(
    # x = (0, 0.5). The spike at t=1 is too much; a signed neuron takes it back, a burst has two of them.
    ("neuron", "unevenness"),
    [(IF(), 0.25 / 0.25), (Signed(), 0.0), (Burst(2), 1.0 / 0.25)],
    ids=str,
)
def test_a_spike_too_early(neuron: Neuron, unevenness: float) -> None:
    ann, snn, images = uneven(neuron)
    assert numbers(split(ann, snn, images, 0)) == alone("unevenness", 0.0)
    assert numbers(split(ann, snn, images, 1)) == alone("unevenness", unevenness)


def test_parts_that_have_a_product() -> None:
    # 1.5 is clipped to 1, and half of the weight leaves 0.5: the two of 0.5 each add up to 1.
    ann, snn, images = single([1.5])
    next(iter(snn.network.operators.values())).weight.data /= 3
    found = split(ann, snn, images)
    half, quarter = 0.5 / 2.25, 0.25 / 2.25
    assert found.shares == Parts(*(pytest.approx(v) for v in (half, 0, half, 0)))
    assert found.norms == Parts(*(pytest.approx(v) for v in (quarter, 0, quarter, 0)))
    assert (found.total, found.cross) == (pytest.approx(2 * half), pytest.approx(half))


@pytest.mark.parametrize(
    "pipeline",
    [LCP(5, neuron=Signed()), ACP(4, **AS_GIVEN, rounding="bias"), ACP(4, **AS_GIVEN, neuron=Burst(2))],
)
@pytest.mark.parametrize("toy_class", [Residual, MaxPooled], ids=lambda t: t.__name__)
def test_the_shares_add_up_to_the_error_of_the_calibration(
    toy_class: type[nn.Module], pipeline: Pipeline
) -> None:
    ann, images = toy(toy_class), inputs(toy_class, 32)
    snn = calibrate(ann, [images], pipeline, progress=False)
    report = measure_mismatch(ann, snn, images)
    assert [s.name for s in report.stages] == [record["name"] for record in snn.records]
    for stage, record in zip(report.stages, snn.records, strict=True):
        assert stage.total == pytest.approx(record["error"], rel=1e-4)
        assert sum(stage.shares) == pytest.approx(stage.total, rel=1e-9)
        assert sum(stage.norms) + stage.cross == pytest.approx(stage.total)
        if stage.kind != "neuron":
            assert numbers(stage) == alone("input", stage.total)


@pytest.mark.parametrize("toy_class", TOYS, ids=lambda t: t.__name__)
def test_nothing_is_left_after_many_steps(toy_class: type[nn.Module]) -> None:
    ann, images = toy(toy_class), inputs(toy_class, 2)
    for stage in measure_mismatch(ann, convert(ann, images, 4096), images).stages:
        assert 0 <= stage.total < 1e-4, stage


def test_chunks_of_images_and_of_time_change_nothing() -> None:
    ann, images = toy(Residual), inputs(Residual, 20)
    snn = convert(ann, images, 5)
    whole = measure_mismatch(ann, snn, images)
    snn.rows = 20
    parts = measure_mismatch(ann, snn, images)
    for a, b in zip(whole.stages, parts.stages, strict=True):
        assert (*b.shares, *b.norms, b.total) == pytest.approx((*a.shares, *a.norms, a.total), abs=1e-6)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in snn.modules())


@pytest.mark.parametrize(
    ("toy_class", "max_pooling", "convert_avg_pool"),
    [
        (PlainConv, "gated", True),
        (MaxPooled, "gated", False),
        (MaxPooled, "average", False),
        (MaxPooled, "keep", False),
        (MaxPooled, "keep", True),
    ],
)
def test_the_ann_gets_the_pooling_of_the_snn(
    toy_class: type[nn.Module], max_pooling: str, convert_avg_pool: bool
) -> None:
    ann, images = toy(toy_class), inputs(toy_class, 3)
    snn = convert(ann, images, 4, max_pooling=max_pooling, convert_avg_pool=convert_avg_pool)
    report = measure_mismatch(ann, snn, images)
    network = normalise(ann, images)
    assert measure_mismatch(network, snn, images) == report
    assert measure_mismatch(prepare(network, images, snn.conversion), snn, images) == report
    assert [s.name for s in report.stages] == list(snn.units)
    older = SpikingModel.from_spec(older_spec(snn))
    older.load_state_dict(snn.state_dict())
    assert measure_mismatch(ann, older, images) == report


def test_a_silent_site_has_an_error_of_0_or_1() -> None:
    ann, snn, images = single([-1.0])
    assert numbers(split(ann, snn, images)) == alone("input", 0.0)
    site(snn).bias += 2.0
    assert numbers(split(ann, snn, images)) == alone("input", 1.0)


def test_what_is_printed() -> None:
    ann, snn, images = single([1.5, 0.5])
    report = measure_mismatch(ann, snn, images)
    lines = str(report).splitlines()
    assert "T=2, 1 images" in lines[0]
    assert lines[1].split()[:6] == ["stage", "clipping", "quantisation", "input", "unevenness", "total"]
    zero, value = "0.0000", "0.1000"
    numbers = [value, zero, zero, zero, value, value, zero, zero, zero, zero]
    assert lines[2].split() == [report.stages[0].name, *numbers]
    assert lines[3].split()[1:6] == ["-", "-", value, "-", value]
    assert lines[4].split() == ["mean", "of", "the", "sites", *numbers]


def test_bad_input() -> None:
    ann, images = toy(Vector), inputs(Vector, 3)
    snn = convert(ann, images, 2)
    with pytest.raises(SettingsError, match="at least one image"):
        measure_mismatch(ann, snn, images[:0])
    other = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(SettingsError, match=r"not of this ANN: it has 2 sites and the ANN 1, .*Pass the ANN"):
        measure_mismatch(other, snn, images)
    wider = nn.Sequential(nn.Linear(10, 17), nn.ReLU(), nn.Linear(17, 4))
    with pytest.raises(SettingsError, match=r"'_0' \(Linear\) with out_features=16 .* has out_features=17"):
        measure_mismatch(wider, convert(other, images, 2), images)
