"""A conversion as one value: what a model remembers of it, and what of it a file keeps."""

import io
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import pytest
import torch

from snn_lightning import ACP, MMSE, Burst, Max, Percentile, SpikingModel, calibrate, convert
from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.graph import GraphSettings
from snn_lightning.spiking import Conversion
from snn_lightning.spiking.conversion import THRESHOLDS
from snn_lightning.thresholds import Threshold, register_threshold
from tests.spiking.older import older_spec
from tests.toys import MaxPooled, PlainConv, inputs, toy

CHOSEN = {"neuron": Burst(3), "rounding": "bias", "precision": "bf16", "max_pooling": "keep"}


def through_a_file(spec: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(spec, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("threshold", [Max(), MMSE("layer", grid=7), Percentile(percentile=90.0)], ids=str)
def test_a_file_keeps_all_of_it(threshold: Threshold) -> None:
    conversion = Conversion(5, threshold, convert_avg_pool=True, **CHOSEN)
    spec = through_a_file(conversion.spec())
    assert spec.keys() == {f.name for f in fields(Conversion)}
    assert Conversion.from_spec(spec) == conversion


def test_a_model_remembers_how_it_was_converted() -> None:
    x = inputs(MaxPooled, 3)
    snn = convert(toy(MaxPooled), x, 4, **CHOSEN)
    assert snn.conversion == Conversion(4, Max(), **CHOSEN)
    pipeline = ACP(4, **CHOSEN, weights=None, seed=3)
    calibrated = calibrate(toy(MaxPooled), [x], pipeline, progress=False)
    assert type(calibrated.conversion) is Conversion
    assert calibrated.conversion == pipeline.conversion == Conversion(4, MMSE(), **CHOSEN)
    assert SpikingModel.from_spec(through_a_file(snn.spec())).conversion == snn.conversion
    snn.precision = "float32"
    assert snn.conversion.precision == snn.network.precision == "float32"
    with pytest.raises(FrozenInstanceError):
        snn.conversion.precision = "bf16"  # type: ignore[misc]


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("mode", ["gated", "average", "keep"])
def test_what_older_files_say_of_it(version: int, mode: str) -> None:
    known: dict[str, Any] = {"max_pooling": mode, "neuron": Burst(3), "precision": "bf16"}
    snn = convert(toy(MaxPooled), inputs(MaxPooled, 3), 4, **known)
    conversion = SpikingModel.from_spec(older_spec(snn, version)).conversion
    for key in ("precision", "neuron")[: 3 - version]:
        del known[key]
    assert conversion == Conversion(4, **known)
    assert conversion.threshold is None


def test_older_files_show_what_became_of_average_pooling() -> None:
    for convert_avg_pool in (False, True):
        snn = convert(toy(PlainConv), inputs(PlainConv), 4, convert_avg_pool=convert_avg_pool)
        loaded = SpikingModel.from_spec(older_spec(snn))
        assert loaded.conversion.convert_avg_pool == convert_avg_pool


@dataclass(frozen=True)
class Third(Threshold):
    """A threshold of a user's own."""

    share: float = 1 / 3

    def find(self, histogram, timesteps, half_step):
        return self.share * histogram.maximum


def test_a_threshold_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"threshold tests\.Third is not registered: put @register_thres"):
        ACP(4, threshold=Third())
    register_threshold(Third)
    spec = through_a_file(Conversion(4, Third(share=0.5)).spec())
    assert Conversion.from_spec(spec).threshold == Third(share=0.5)
    # What has been converted runs without it.
    monkeypatch.delitem(THRESHOLDS._things, "tests.Third")
    assert Conversion.from_spec(spec) == Conversion(4)


@pytest.mark.parametrize("value", ["mmse", MMSE, Burst(2)])
def test_what_is_no_threshold_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"threshold (must be a Threshold|Burst is not registered)"):
        convert(toy(PlainConv), inputs(PlainConv), 4, threshold=value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "fp8"}, "of another version: precision must be one of .*, got 'fp8'"),
        ({"timesteps": 0}, "of another version: timesteps"),
        ({"colour": "red"}, "of another version: .*colour"),
        ({"neuron": {"kind": "None"}}, "not known here"),
    ],
)
def test_a_damaged_description_is_refused(change: dict[str, Any], message: str) -> None:
    spec = convert(toy(PlainConv), inputs(PlainConv), 4).spec()
    spec["conversion"] |= change
    with pytest.raises(CheckpointError, match=message):
        SpikingModel.from_spec(spec)
    del spec["conversion"]
    with pytest.raises(CheckpointError, match="of another version: 'conversion'"):
        SpikingModel.from_spec(spec)


def test_a_pipeline_is_a_conversion() -> None:
    pipeline = ACP(4, Max(), Burst(2), "bias")
    assert (pipeline.threshold, pipeline.neuron, pipeline.rounding) == (Max(), Burst(2), "bias")
    assert isinstance(pipeline, Conversion)
    assert isinstance(pipeline, GraphSettings)
