"""Temporal-switch coding: two spikes an inference, whose distance in time is the rate."""

from itertools import pairwise
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from snn_lightning import (
    ACP,
    LCP,
    Best,
    LeastSquares,
    Max,
    NeuronSearch,
    Pipeline,
    Switch,
    calibrate,
    convert,
    rescale_to_unit_spikes,
)
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.analysis.mismatch import measure_mismatch
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import SwitchNeuron
from snn_lightning.spiking.neurons.dynamics import clip_floor
from snn_lightning.spiking.neurons.temporal_switch import switches
from tests.toys import MaxPooled, Residual, inputs, toy

# Dyadic numbers: sums and differences of them are exact in float64.
currents = st.lists(st.integers(-192, 192).map(lambda n: n / 64), min_size=1, max_size=24)
thresholds = st.integers(1, 32).map(lambda n: n / 16)


def column(values: list[float]) -> Tensor:
    """Currents `[T, 1, 1]`."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def signed_spikes(on: Tensor) -> list[int]:
    """The spikes σ(1), ..., σ(T + 1) whose sums over time are `on`."""
    steps = [0, *on.flatten().tolist(), 0]
    return [int(b - a) for a, b in pairwise(steps)]


@pytest.mark.parametrize(
    ("given_", "on"),
    [
        ([5.0, -4.0, 3.0, 0.5], [1, 1, 0, 0]),  # 5.5 in all: two steps, whatever came when
        ([0.5, 3.0, -4.0, 5.0], [1, 1, 0, 0]),
        ([0.5, 0.25, 0.0, 0.0], [0, 0, 0, 0]),
        ([-1.0, -2.0, 0.0, 0.0], [0, 0, 0, 0]),
        ([9.0, 9.0, 0.0, 0.0], [1, 1, 1, 1]),
    ],
)
def test_by_hand(given_: list[float], on: list[int]) -> None:
    """Threshold 2, from 1."""
    output, _ = SwitchNeuron(torch.tensor([2.0], dtype=torch.float64))(column(given_), None, 4)
    assert (output / 2).flatten().tolist() == on


@given(currents, thresholds, st.integers(-64, 64).map(lambda n: n / 64))
def test_two_spikes_as_many_steps_apart_as_the_potential_holds_thresholds(
    values: list[float], v_th: float, v_init: float
) -> None:
    steps, neuron = len(values), SwitchNeuron(torch.tensor([v_th], dtype=torch.float64))
    neuron.v_init = torch.tensor([v_init], dtype=torch.float64)
    output, _ = neuron(column(values), None, steps)
    length = min(max(floor((v_init + sum(values)) / v_th), 0), steps)
    spikes = signed_spikes(output / v_th)
    expected = [0] * (steps + 1)
    expected[0] += 1
    expected[length] -= 1
    assert spikes == expected
    # A spike counts for the time that is left after it.
    assert sum(spike * (steps - t) for t, spike in enumerate(spikes)) == length
    mean = column(values).mean(0)
    if floor((v_init + steps * mean.item()) / v_th) == floor((v_init + sum(values)) / v_th):
        assert output.mean(0).item() == pytest.approx(neuron.expected_rate(mean, steps).item(), abs=1e-12)
    emission = neuron.emit(column(values), None, steps)
    assert emission.counts.item() == sum(abs(spike) for spike in spikes) == switches(output).sum().item()
    assert torch.equal(emission.output.unpack(), output)
    assert torch.equal(emission.total, output.sum(0))


@given(st.integers(0, 64), st.integers(1, 64))
def test_a_constant_current_is_coded_as_a_pixel_is(pixel: int, steps: int) -> None:
    """A pixel p in [0, 1]: a spike at step 1 and a negative one at step `floor(p (N - 1)) + 1` of N."""
    p, neuron = pixel / 64, SwitchNeuron(torch.ones(1, dtype=torch.float64), rounding="floor")
    output, _ = neuron(torch.full((1, 1), p, dtype=torch.float64), None, steps, static=True)
    spikes = signed_spikes(output)
    last = floor(p * steps) + 1
    assert spikes == [(t == 1) - (t == last) for t in range(1, steps + 2)]


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(2, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    return nn.Sequential(*layers).eval().double()


@pytest.mark.parametrize("timesteps", [1, 4, 11])
def test_the_network_is_the_ann_with_floored_activations(timesteps: int) -> None:
    ann = chain()
    images = torch.randn(40, 2, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    snn = convert(ann, images, timesteps, threshold=Max("layer"), neuron=Switch())
    for neuron in snn.neurons.values():
        neuron.set_threshold(neuron.v_th * 0.8, "floor", timesteps)
    thresholds_, x = iter(n.v_th for n in snn.neurons.values()), images
    with torch.no_grad():
        for layer in ann:
            x = clip_floor(x, timesteps, next(thresholds_)) if isinstance(layer, nn.ReLU) else layer(x)
    assert x.std() > 0
    for rows in (128, 1):
        snn.rows = rows
        torch.testing.assert_close(snn(images), x, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(snn.running_mean(images)[-1], x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "pipeline",
    [
        LCP(40, neuron=Switch()),
        ACP(40, neuron=Switch()),
        ACP(40, neuron=Switch(), weights=LeastSquares(), search=NeuronSearch()),
    ],
    ids=["lcp", "acp", "least squares and search"],
)
@pytest.mark.parametrize("cls", [Residual, MaxPooled])
def test_nothing_comes_at_the_wrong_time(cls: type[nn.Module], pipeline: Pipeline) -> None:
    ann, images = toy(cls), inputs(cls, 32)
    snn = calibrate(ann, [images], pipeline, progress=False)
    assert (snn(images) - ann(images)).norm() < 0.05 * ann(images).norm()
    # But for what float32 makes of a potential that is just a threshold.
    assert all(stage.norms.unevenness < 1e-6 for stage in measure_mismatch(ann, snn, images).stages)
    unit = rescale_to_unit_spikes(snn.double())
    torch.testing.assert_close(unit(images.double()), snn(images.double()), rtol=1e-9, atol=1e-11)
    fired = sum(2 * (train != 0).any(0).sum().item() for train in snn.spikes(images.double()).values())
    places = sum(train[0].numel() for train in snn.spikes(images.double()).values())
    rates = [record["firing_rate"] for record in snn.records if record["kind"] == "neuron"]
    assert max(rates) <= 2 / 40
    assert measure_energy(snn, images.double()).firing_rate == pytest.approx(fired / places / 40)


def test_the_rounding_of_a_gates_sums_is_no_spike() -> None:
    images = torch.randn(20, 2, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    snn = convert(chain(), images, 11, threshold=Max("layer"), neuron=Switch())
    double = [stage.accumulates for stage in measure_energy(snn, images).stages]
    single = [stage.accumulates for stage in measure_energy(snn.float(), images.float()).stages]
    assert double == pytest.approx(single, rel=0.01)


def test_each_synapse_adds_twice() -> None:
    ann = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    with torch.no_grad():
        for layer in ann[::2]:
            layer.bias.zero_()
            layer.weight.fill_(0.25)
        ann[0].weight.copy_(torch.eye(2))
    images = torch.tensor([[1.0, 0.5], [1.0, 0.0], [-1.0, -1.0]])
    report = measure_energy(convert(ann, images, 8, threshold=Max("layer"), neuron=Switch()), images)
    # Two neurons of the first layer are on, then one, then none; of the second all five, twice.
    assert [stage.spikes * 3 for stage in report.stages] == [6, 20, 0]
    assert [stage.accumulates * 3 for stage in report.stages] == [0, 2 * 3 * 5, 2 * 10 * 3]


def test_they_wait_for_their_whole_input() -> None:
    snn = convert(toy(Residual), inputs(Residual, 2), 4, neuron=Switch())
    with pytest.raises(SettingsError, match=r"Neurons Switch\(\) wait for all 4 time steps of their input"):
        snn.step(snn.initial_state(inputs(Residual, 2)))
    neuron = SwitchNeuron()
    _, state = neuron(torch.ones(3, 1, 1), None, 3)
    with pytest.raises(SettingsError, match="takes all time steps of an inference at once"):
        neuron(torch.ones(3, 1, 1), state, 3)
    with pytest.raises(SettingsError, match=r"Switch\(\) has no surrogate gradient"):
        Best(4, neuron=Switch())
