"""Every pipeline on signed and burst neurons."""

from typing import Any

import pytest
import torch

from snn_lightning import ACP, IF, LCP, Baseline, Burst, Pipeline, Signed, SpikingModel, Weights, calibrate
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.walk.cache import StoredSpikes
from snn_lightning.calibration.walk.context import StageContext
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import Neuron
from snn_lightning.spiking.packing import SpikeTrain
from snn_lightning.thresholds import Max
from tests.calibration.support import Custom, Probe, make_loop, parameters, same_bits
from tests.toys import Bottleneck, MaxPooled, PlainConv, Residual, inputs, toy

KINDS = [Signed(), Burst(2), Burst(3)]
WEIGHTS = Weights(20, batch_size=16)


def pipeline(cls: type[Pipeline], **settings: Any) -> Pipeline:
    more = {"weights": WEIGHTS} if cls is ACP else {}
    return cls(4, **{**more, **settings})


@pytest.mark.parametrize("neuron", [IF(), *KINDS], ids=str)
@pytest.mark.parametrize("cls", [LCP, ACP])
def test_calibration_lowers_the_error_of_the_readout(cls: type[Pipeline], neuron: Neuron) -> None:
    ann, images = toy(Residual), inputs(Residual, 64)
    with torch.no_grad():
        expected = ann(images)
    errors = []
    for settings in (Baseline(4, neuron=neuron), pipeline(cls, neuron=neuron)):
        snn = calibrate(ann, [images], settings, progress=False)
        assert snn.neuron == neuron
        errors.append(((snn(images) - expected).norm() / expected.norm()).item())
        record = snn.records[-1]
        rates = [r["firing_rate"] for r in snn.records if r["kind"] == "neuron"]
        assert record["error"] == pytest.approx(errors[-1] ** 2, rel=1e-3)
        assert all(0 < rate < snn.neurons["relu"].highest for rate in rates)
    assert errors[1] < 0.98 * errors[0]


def test_signed_neurons_have_less_error_than_binary_ones() -> None:
    ann, images = toy(Residual), inputs(Residual, 64)
    errors = {}
    for neuron in (IF(), Signed()):
        records = calibrate(ann, [images], Baseline(8, neuron=neuron), progress=False).records
        errors[neuron] = [record["error"] for record in records]
    # The first site has a constant current: there they are the same.
    assert errors[Signed()][0] == errors[IF()][0]
    assert errors[Signed()][-1] < 0.9 * errors[IF()][-1]


def test_a_burst_of_one_is_calibrated_as_a_binary_neuron_bit_for_bit() -> None:
    ann, images = toy(MaxPooled), inputs(MaxPooled, 24)
    for settings in (LCP, ACP):
        one, binary = (
            calibrate(ann, [images], pipeline(settings, neuron=n), progress=False) for n in (Burst(1), IF())
        )
        assert same_bits(one, binary)


@pytest.mark.parametrize("rounding", ["potential", "bias", "floor"])
@pytest.mark.parametrize("neuron", KINDS, ids=str)
def test_a_threshold_is_the_step_between_rates(neuron: Neuron, rounding: str) -> None:
    ann, images = toy(PlainConv), inputs(PlainConv, 32)
    settings = {"threshold": Max(), "rounding": rounding}
    model, binary = (
        calibrate(ann, [images], Baseline(4, neuron=n, **settings), progress=False) for n in (neuron, IF())
    )
    for name, unit in model.neurons.items():
        torch.testing.assert_close(unit.highest * unit.v_th, binary.neurons[name].v_th)
        half = {"potential": (unit.v_th / 2, 0), "bias": (0, unit.v_th / 8), "floor": (0, 0)}[rounding]
        torch.testing.assert_close(unit.v_init, half[0] + torch.zeros_like(unit.v_th))
        torch.testing.assert_close(unit.bias, half[1] + torch.zeros_like(unit.v_th))


@pytest.mark.parametrize("spikes", [1, 2, 3])
def test_a_cap_bounds_the_largest_rate(spikes: int) -> None:
    ann, images = toy(Bottleneck), 20 * inputs(Bottleneck, 16)
    snn = calibrate(ann, [images], Baseline(4, neuron=Burst(spikes), threshold=Max()), progress=False)
    largest = torch.cat([spikes * unit.v_th for unit in snn.neurons.values()])
    assert largest.max().item() == pytest.approx(6.0)
    # Nothing of the activations is clipped, and so the largest one is no worse than the chosen threshold.
    for record in snn.records[:-1]:
        numbers = record["steps"]["threshold"]
        assert numbers["after"] == pytest.approx(numbers["before"], rel=1e-4)


def test_more_spikes_a_step_quantise_more_finely() -> None:
    ann, images = toy(PlainConv), inputs(PlainConv, 32)
    errors = []
    for neuron in (Burst(1), Burst(2), Burst(4)):
        records = calibrate(ann, [images], Baseline(2, neuron=neuron), progress=False).records
        errors.append(records[0]["steps"]["threshold"]["after"])
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def outputs_in_the_cache(neuron: Neuron) -> tuple[SpikingModel, dict[str, list[Any]]]:
    """The stored outputs of each unit that later stages read."""
    seen: dict[str, list[Any]] = {}

    def look(context: StageContext) -> None:
        for name, stored in context.inputs.items():
            if name != "input":
                seen[name] = [part for parts in stored for part in parts]
                for part in seen[name]:
                    assert isinstance(part, StoredSpikes)

    settings = Custom(4, neuron=neuron, first=Probe(see=look))
    loop = make_loop(toy(MaxPooled), inputs(MaxPooled, 16), settings)
    loop.run()
    return loop.snn, seen


@pytest.mark.parametrize(("neuron", "bits"), [(IF(), 1), (Signed(), 2), (Burst(2), 2)], ids=str)
def test_spikes_and_what_a_gate_makes_of_them_lie_packed_in_the_cache(neuron: Neuron, bits: int) -> None:
    snn, seen = outputs_in_the_cache(neuron)
    # What the second neuron and the readout read; a step sees no gate.
    assert set(seen) == {"pool", "relu_1"}
    for parts in seen.values():
        for part in parts:
            assert isinstance(part.train, SpikeTrain)
            assert part.train.planes <= bits
    assert max(part.train.planes for parts in seen.values() for part in parts) == bits
    assert all(unit.spike_bits == bits for unit in snn.neurons.values())


@pytest.mark.parametrize("neuron", KINDS, ids=str)
def test_neither_chunks_nor_the_place_of_the_cache_change_the_result(neuron: Neuron) -> None:
    ann, images = toy(MaxPooled), inputs(MaxPooled, 40)
    models = [
        calibrate(ann, [images], pipeline(ACP, neuron=neuron, **settings), progress=False)
        for settings in ({}, {"cache_place": "disk"}, {"cache_budget_gb": 1e-5})
    ]
    assert all(same_bits(models[0], model) for model in models[1:])
    # At T = 64 time is cut into parts.
    long = LCP(64, neuron=neuron)
    first = calibrate(ann, [images], long, progress=False)
    loop = make_loop(ann, images, long)
    loop.snn.rows = 10**6
    loop.run()
    for name, value in parameters(loop.snn).items():
        torch.testing.assert_close(value, first.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", ["signed", Signed, None, 2])
def test_the_field_is_named(value: Any) -> None:
    for cls in (Baseline, LCP, ACP):
        with pytest.raises(SettingsError, match=r"neuron must be IF\(\), Signed\(\), Burst\(\) or another"):
            cls(4, neuron=value)


def test_the_cost_model_knows_the_bits_of_a_spike() -> None:
    assert LCP(8, neuron=Burst(4)).work(50) == Work(50, 8, 50, spike_bits=3)
