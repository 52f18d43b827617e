"""The spiking network in time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import MMSE, Max, SpikingModel, convert
from snn_lightning.errors import ConversionError, SettingsError
from snn_lightning.graph import GraphSettings, normalise, prepare
from snn_lightning.spiking.conversion import check_timesteps
from tests.toys import TOYS, Dense, MaxPooled, PlainConv, Residual, Vector, inputs, toy


def spiking(cls: type[nn.Module], timesteps: int, **settings: Any) -> tuple[SpikingModel, Tensor]:
    """Return a converted toy and inputs, both in double precision, where sums have no visible order."""
    x = inputs(cls, 6).double()
    return convert(toy(cls).double(), x, timesteps, **settings), x


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("cls", TOYS)
def test_the_output_is_the_last_running_mean(cls: type[nn.Module]) -> None:
    snn, x = spiking(cls, 7)
    running = snn.running_mean(x)
    assert running.shape[:2] == (7, 6)
    assert torch.allclose(snn(x), running[-1], rtol=1e-12)
    shorter = convert(toy(cls).double(), x, 3)
    assert torch.allclose(shorter(x), running[2], rtol=1e-12)


@pytest.mark.parametrize("cls", TOYS)
@pytest.mark.parametrize("rounding", ["potential", "bias", "floor"])
def test_step_by_step_is_time_batched_spike_for_spike(cls: type[nn.Module], rounding: str) -> None:
    snn, x = spiking(cls, 6, rounding=rounding)
    together = snn.spikes(x)
    state, total, trains = snn.initial_state(x), torch.zeros(()), []
    for t in range(6):
        before = state
        output, state = snn.step(state)
        assert (before.t, state.t) == (t, t + 1)
        total = total + output
    assert torch.allclose(total / 6, snn(x), rtol=1e-12)
    state = snn.initial_state(x)
    for _ in range(6):
        record: dict[str, Tensor] = {}
        snn._advance(state, 1, record)
        trains.append(record)
    assert list(together) == list(snn.neurons)
    for name, train in together.items():
        assert torch.equal(torch.cat([record[name] for record in trains]), train)
        levels = train.transpose(1, 2).transpose(0, 1).flatten(1)
        v_th = snn.neurons[name].v_th
        assert ((levels == 0) | (levels == v_th[:, None])).all()
        assert (levels > 0).any()


def test_a_step_leaves_the_state_it_starts_from() -> None:
    snn, x = spiking(Residual, 4)
    state = snn.initial_state(x)
    _, after = snn.step(state)
    potentials = {name: v.clone() for name, v in after.units.items() if v is not None}
    first, _ = snn.step(after)
    second, _ = snn.step(after)
    assert torch.equal(first, second)
    assert state.units == {}
    assert all(torch.equal(after.units[name], v) for name, v in potentials.items())


@pytest.mark.parametrize("cls", TOYS)
def test_chunks_of_time_and_images_change_nothing(cls: type[nn.Module]) -> None:
    snn, _ = spiking(cls, 9)
    x = inputs(cls, 37, seed=3).double()
    snn.rows = 10**6
    whole, running = snn(x), snn.running_mean(x)
    for rows in (1, 40, 100):
        snn.rows = rows
        assert torch.allclose(snn(x), whole, rtol=1e-11, atol=1e-13)
        assert torch.allclose(snn.running_mean(x), running, rtol=1e-11, atol=1e-13)


def test_an_image_does_not_depend_on_its_batch_or_the_one_before() -> None:
    snn, x = spiking(Residual, 5)
    whole = snn(x)
    snn(x * 100)
    assert torch.allclose(torch.cat([snn(image) for image in x.split(1)]), whole, rtol=1e-12)
    assert torch.equal(snn(x), whole)


def test_an_empty_batch_has_an_empty_output() -> None:
    for cls in TOYS:
        snn, x = spiking(cls, 3)
        assert snn(x[:0]).shape == (0, *snn(x).shape[1:])


def test_the_output_is_the_mean_over_time_and_not_the_sum() -> None:
    # One neuron with threshold 1: at a current of 1/2 the rate is 1/2, at whatever T.
    ann = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        for layer in (ann[0], ann[2]):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    for timesteps in (2, 8, 32):
        snn = convert(ann, torch.ones(1, 1), timesteps)
        assert snn(torch.full((1, 1), 0.5)).item() == 0.5
        assert snn(torch.full((1, 1), 7.0)).item() == 1.0
    assert snn.running_mean(torch.full((1, 1), 0.5)).flatten()[:4].tolist() == [
        1.0,
        0.5,
        pytest.approx(2 / 3),
        0.5,
    ]


def count_calls(snn: SpikingModel) -> dict[str, list[int]]:
    """Return a record of the batch sizes each synapse is called with."""
    calls: dict[str, list[int]] = {}
    for name, module in snn.network.operators.items():
        if isinstance(module, nn.Conv2d | nn.Linear):
            record = calls.setdefault(name, [])
            module.register_forward_hook(lambda m, args, out, record=record: record.append(len(args[0])))
    return calls


@pytest.mark.parametrize("simulate", [SpikingModel.forward, SpikingModel.running_mean])
def test_static_values_are_computed_once_and_temporal_ones_t_times(simulate: Callable[..., Any]) -> None:
    snn, x = spiking(Dense, 8)
    calls = count_calls(snn)
    simulate(snn, x)
    assert calls["stem"] == [6]
    for name in ("conv1", "conv2", "conv3", "head"):
        assert sum(calls[name]) == 6 * 8
    snn.rows = 1
    for record in calls.values():
        record.clear()
    simulate(snn, x)
    assert calls["stem"] == [6]
    assert calls["conv1"] == [6] * 8


class Outputs(nn.Module):
    """Several outputs: a site, a static value, a temporal one twice, the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        static = self.conv(x)
        site = F.relu(static)
        last = self.second(site)
        return {"site": site, "others": (static, [last, None]), "last": last, "input": x}


def test_every_output_is_a_mean_over_time_in_the_anns_structure() -> None:
    ann, x = Outputs().double(), torch.randn(4, 3, 6, 6, dtype=torch.float64)
    snn = convert(ann, x, 64)
    expected, got = ann(x), snn(x)
    assert list(got) == list(expected)
    static, (last, nothing) = got["others"]
    assert nothing is None
    assert torch.allclose(static, expected["others"][0], rtol=1e-12)
    assert torch.allclose(got["input"], x, rtol=1e-12)
    assert torch.equal(last, got["last"])
    assert relative_error(got["site"], expected["site"]) < 0.02
    assert relative_error(last, expected["last"]) < 0.02
    assert torch.allclose(got["site"], snn.spikes(x)["relu"].mean(0), rtol=1e-12)
    running = snn.running_mean(x)
    assert running["others"][1][0].shape == (64, *last.shape)
    step, _ = snn.step(snn.initial_state(x))
    assert torch.equal(step["last"], running["last"][0])


@pytest.mark.parametrize("cls", TOYS)
def test_the_snn_converges_to_the_ann(cls: type[nn.Module]) -> None:
    ann, x = toy(cls), inputs(cls, 4)
    with torch.no_grad():
        expected = ann(x)
    gated = cls is MaxPooled
    assert relative_error(convert(ann, x, 1024)(x), expected) < (0.05 if gated else 0.005)
    # The error of flooring neurons has one sign and does not average out: it shows how the error falls.
    errors = [relative_error(convert(ann, x, t, rounding="floor")(x), expected) for t in (512, 1024)]
    assert errors[1] < (0.05 if gated else 0.02)
    assert 1.4 < errors[0] / errors[1] < 3


@pytest.mark.parametrize("mode", ["average", "keep"])
def test_other_max_poolings_converge_to_what_they_stand_for(mode: str) -> None:
    ann, x = toy(MaxPooled), inputs(MaxPooled, 4)
    network = prepare(normalise(ann, x), x, GraphSettings(max_pooling=mode))
    with torch.no_grad():
        gated = relative_error(convert(ann, x, 256)(x), ann(x))
        error = relative_error(convert(ann, x, 256, max_pooling=mode)(x), network(x))
    assert error < 0.02 if mode == "average" else error > 2 * gated


def test_converted_average_pooling_converges_too() -> None:
    ann, x = toy(PlainConv), inputs(PlainConv, 4)
    snn = convert(ann, x, 512, convert_avg_pool=True)
    assert len(snn.neurons) == 4
    with torch.no_grad():
        assert relative_error(snn(x), ann(x)) < 0.02


def test_a_dead_channel_stays_silent_and_harmless() -> None:
    ann, x = toy(PlainConv), inputs(PlainConv, 4)
    with torch.no_grad():
        ann.features[1].bias[2], ann.features[1].weight[2] = -1.0, 0.0
    for threshold in (Max(), MMSE()):
        snn = convert(ann, x, 256, threshold=threshold)
        first = next(iter(snn.neurons))
        assert torch.isfinite(snn.neurons[first].v_th).all()
        assert (snn.neurons[first].v_th > 0).all()
        assert snn.spikes(x)[first][:, :, 2].count_nonzero() == 0
        assert torch.isfinite(snn(x)).all()


def test_thresholds_are_the_largest_activations_by_default() -> None:
    ann, x = toy(Vector), inputs(Vector, 64)
    snn = convert(ann, x, 4)
    layer = convert(ann, x, 4, threshold=Max("layer"))
    with torch.no_grad():
        first = ann.layers[:3](x)
    assert torch.allclose(next(iter(snn.neurons.values())).v_th, first.amax(0))
    assert torch.allclose(next(iter(layer.neurons.values())).v_th, first.max())
    assert next(iter(layer.neurons.values())).v_th.shape == ()


def test_relu6_caps_the_threshold() -> None:
    ann = nn.Sequential(nn.Linear(4, 3), nn.ReLU6(), nn.Linear(3, 2))
    snn = convert(ann, torch.randn(50, 4) * 100, 4)
    assert next(iter(snn.neurons.values())).v_th.tolist() == [6.0] * 3


def test_a_converted_network_shares_nothing_with_the_ann() -> None:
    ann, x = toy(Vector), inputs(Vector, 8)
    snn = convert(ann, x, 4)
    before = snn(x)
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.zero_()
    assert torch.equal(snn(x), before)
    assert not any(parameter.requires_grad for parameter in snn.parameters())


@pytest.mark.parametrize("timesteps", [0, -3, 2.5, "4", True, None])
def test_timesteps_must_be_a_whole_number(timesteps: Any) -> None:
    with pytest.raises(SettingsError, match=r"timesteps \(T\) must be a whole number of at least 1, got"):
        check_timesteps(timesteps)
    with pytest.raises(SettingsError, match="timesteps"):
        convert(toy(Vector), inputs(Vector, 2), timesteps)


def test_what_is_no_tensor_is_refused() -> None:
    snn, x = spiking(Vector, 2)
    with pytest.raises(ConversionError, match=r"one tensor \[N, ...\], got dict"):
        snn({"x": x})
