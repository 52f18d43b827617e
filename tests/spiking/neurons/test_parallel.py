"""Neurons that take the currents of a whole window and then fire: the quantised activation."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import (
    ACP,
    IF,
    LCP,
    Baseline,
    Best,
    LeastSquares,
    NeuronSearch,
    Parallel,
    Pipeline,
    SpikingModel,
    Weights,
    calibrate,
    convert,
    load_converted,
    rescale_to_unit_spikes,
    save_converted,
)
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.analysis.mismatch import measure_mismatch
from snn_lightning.analysis.potentials import membrane_potentials
from snn_lightning.calibration import Distillation
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import ParallelNeuron, Signed
from snn_lightning.spiking.packing import SpikeTrain
from tests.calibration.support import in_two_threads, largest_difference, parameters, run, same_bits
from tests.toys import AS_GIVEN, MaxPooled, PlainConv, Residual, Vector, inputs, toy

# Dyadic numbers: sums and differences of them are exact in float64.
currents = st.lists(st.integers(-192, 192).map(lambda n: n / 64), min_size=1, max_size=24)
thresholds = st.integers(1, 32).map(lambda n: n / 16)


def column(values: list[float]) -> Tensor:
    """Currents `[T, 1, 1]`."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


@pytest.mark.parametrize(
    ("given_", "spikes"),
    [
        ([5.0, -4.0, 3.0, 0.5], [2, 2, 0, 0]),  # 4.5 in all, 2.25 thresholds, whatever came when
        ([0.5, 3.0, -4.0, 5.0], [2, 2, 0, 0]),
        ([0.0, 0.0, 5.0, 0.0], [2, 2, 2, 0]),  # 2.5 thresholds round up
        ([0.5, 0.25, 0.0, 0.0], [0, 0, 0, 0]),
        ([-1.0, -2.0, 0.0, 0.0], [0, 0, 0, 0]),
        ([9.0, 9.0, 0.0, 0.0], [2, 2, 2, 2]),
    ],
)
def test_by_hand(given_: list[float], spikes: list[float]) -> None:
    """Threshold 2, from 1."""
    neuron = ParallelNeuron(torch.tensor(2.0, dtype=torch.float64))
    output, _ = neuron(column(given_), None, 4)
    assert output.flatten().tolist() == spikes
    neuron.levels = 4
    mean, _ = neuron(column(given_).mean(0), None, 1, static=True)
    assert mean.item() == sum(spikes) / 4


@given(currents, thresholds, st.sampled_from(["potential", "bias", "floor"]))
def test_the_count_is_the_rounded_mean_current(values: list[float], v_th: float, rounding: str) -> None:
    steps = len(values)
    neuron = ParallelNeuron(torch.tensor([v_th], dtype=torch.float64), rounding, steps)
    output, _ = neuron(column(values), None, steps)
    half = 0.0 if rounding == "floor" else 0.5
    count = min(max(floor(sum(values) / v_th + half), 0), steps)
    exact = rounding == "floor" or steps.bit_count() == 1 or sum(values) / v_th + half != count
    if exact:
        assert output.flatten().tolist() == [v_th] * count + [0.0] * (steps - count)
    emission = neuron.emit(column(values), None, steps)
    assert emission.counts.item() == (output > 0).sum().item()
    assert torch.equal(emission.output.unpack(), output)
    assert torch.equal(emission.total, output.sum(0))


@given(st.floats(-2, 4), st.integers(1, 300), thresholds)
def test_one_step_stands_for_all(mean: float, steps: int, v_th: float) -> None:
    neuron = ParallelNeuron(torch.tensor([v_th], dtype=torch.float64))
    neuron.levels, current = steps, torch.full((1, 1), mean, dtype=torch.float64)
    train, _ = neuron(current, None, steps, static=True)
    rate, _ = neuron(current[None], None, 1)
    assert rate.shape == (1, 1, 1)
    assert rate.item() == pytest.approx(train.mean().item(), abs=1e-12)
    assert torch.equal(rate[0], neuron.expected_rate(current, steps))
    emission = neuron.emit(current[None], None, 1)
    assert emission.counts.item() == (train > 0).sum().item()
    packed = isinstance(emission.output, SpikeTrain)
    assert packed == (steps <= 255)
    stored = emission.output.unpack() if packed else emission.output
    assert torch.equal(stored, rate)
    assert neuron.emit(current[None], None, 1, keep=False).output is None


def test_gradients_fade_where_the_count_is_clipped() -> None:
    """Thresholds of 1 and four steps: 1.7 spikes; a quarter of one; three quarters above four; and beyond."""
    neuron = ParallelNeuron(torch.ones(5), rounding="floor")
    values = torch.tensor([[[-0.9, 0.0625, 0.425, 1.1875, 1.4]]]).expand(4, 1, 5).clone().requires_grad_(True)
    slopes = torch.tensor([0.0, 0.25, 1.0, 0.25, 0.0])
    train, _ = neuron(values, None, 4)
    assert torch.equal(train, ParallelNeuron(torch.ones(5), "floor")(values.detach(), None, 4)[0])
    (in_time,) = torch.autograd.grad(train.mean(0).sum(), values)
    assert torch.allclose(in_time[:, 0], slopes.expand(4, 5) / 4)
    neuron.levels, mean = 4, values.detach().mean(0, keepdim=True).requires_grad_(True)
    (at_once,) = torch.autograd.grad(neuron(mean, None, 1)[0].sum(), mean)
    assert torch.allclose(at_once[0, 0], slopes)


def by_hand(ann: nn.Module, snn: SpikingModel, x: Tensor) -> Tensor:
    """Run the toys `Residual` and `MaxPooled` with every activation quantised to T levels."""
    units = iter(snn.neurons.values())

    def site(value: Tensor) -> Tensor:
        v_th, steps = next(units).v_th, snn.timesteps
        v_th = v_th.view(-1, *[1] * (value.dim() - 2))
        return (value * steps / v_th + 0.5).floor().clamp(0, steps) * v_th / steps

    if isinstance(ann, MaxPooled):
        x = ann.pool(site(ann.norm1(ann.conv1(x))))
        return ann.head(site(ann.norm2(ann.conv2(x))).flatten(1))
    x = site(ann.stem_norm(ann.stem(x)))
    x = site(x + ann.norm2(ann.conv2(site(ann.norm1(ann.conv1(x))))))
    y = ann.norm4(ann.conv4(site(ann.norm3(ann.conv3(x))))) + ann.down_norm(ann.down(x))
    return ann.head(site(y).mean((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("timesteps", [1, 3, 8])
@pytest.mark.parametrize("cls", [Residual, MaxPooled])
def test_the_network_is_the_quantised_ann(cls: type[nn.Module], timesteps: int) -> None:
    ann, images = toy(cls).double(), inputs(cls, 20).double()
    snn = convert(ann, images, timesteps, neuron=Parallel())
    expected = by_hand(ann, snn, images)
    assert expected.std() > 0
    for rows in (128, 1):
        snn.rows = rows
        torch.testing.assert_close(snn(images), expected, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(snn.running_mean(images)[-1], expected, rtol=1e-9, atol=1e-11)
    unit = rescale_to_unit_spikes(snn)
    torch.testing.assert_close(unit(images), expected, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_spikes_are_spread_over_time_where_someone_asks() -> None:
    ann, images = toy(Residual).double(), inputs(Residual, 6).double()
    snn = convert(ann, images, 5, neuron=Parallel())
    rates: dict[str, Tensor] = {}
    for name, unit in snn.neurons.items():
        unit.register_forward_hook(lambda _, __, output, name=name: rates.update({name: output[0]}))
    snn(images)
    at_once = dict(rates)
    for name, train in snn.spikes(images).items():
        v_th = snn.neurons[name].v_th.view(-1, 1, 1)
        assert ((train == 0) | (train == v_th)).all()
        torch.testing.assert_close(train.mean(0), at_once[name][0], rtol=1e-12, atol=1e-12)
        assert at_once[name].shape == (1, *train.shape[1:])
        # The first steps of the window: none fires after one in which it has not.
        assert (train.diff(dim=0) <= 0).all()


@torch.no_grad()
def test_with_one_time_step_they_are_integrate_and_fire_neurons() -> None:
    learns = Distillation(iterations=20, batch_size=16)
    for cls in (Residual, MaxPooled):
        ann, images = toy(cls), inputs(cls, 32)
        pipelines = [Best(1, **AS_GIVEN, neuron=neuron, distillation=learns) for neuron in (Parallel(), IF())]
        models = [calibrate(ann, [images], pipeline, progress=False) for pipeline in pipelines]
        learnt = [model.records[-1]["steps"]["distillation"] for model in models]
        assert learnt[0]["loss_19"] != learnt[0]["loss_0"]
        assert learnt[0] == pytest.approx(learnt[1], rel=1e-3)
        assert largest_difference(*map(parameters, models)) < 1e-4
        torch.testing.assert_close(models[0](images), models[1](images))


@contextmanager
def rows_seen(operator: nn.Module) -> Iterator[list[int]]:
    """Note how many rows each call of an operator has."""
    seen: list[int] = []
    handle = operator.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    yield seen
    handle.remove()


def test_nothing_runs_t_times() -> None:
    ann, images = toy(PlainConv), inputs(PlainConv, 20)
    snn = convert(ann, images, 16, neuron=Parallel())
    assert (snn.simulated_steps, snn.timesteps) == (1, 16)
    (second,) = (m for m in snn.network.operators.values() if isinstance(m, nn.Conv2d) and m.in_channels == 8)
    with rows_seen(second) as seen:
        snn(images)
    assert seen == [20]
    assert LCP(16, neuron=Parallel()).work(50) == Work(50, 16, 50, spike_bits=5, simulated=1)
    assert LCP(16, neuron=Parallel(), max_pooling="keep").work(50) == Work(50, 16, 50)
    calls: list[int] = []
    forward = nn.Conv2d.forward

    def counted(self: nn.Conv2d, x: Tensor) -> Tensor:
        calls.append(len(x))
        return forward(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", counted)
        run(ann, images, LCP(16, neuron=Parallel()))
    assert max(calls) <= 20


@pytest.mark.parametrize("cls", [Residual, MaxPooled])
@pytest.mark.parametrize(
    "pipeline",
    [
        Baseline(4, neuron=Parallel()),
        LCP(4, neuron=Parallel()),
        LCP(4, neuron=Parallel(), rounding="bias", search=NeuronSearch((0.9, 1.0, 1.1), (0.5,))),
        ACP(4, **AS_GIVEN, neuron=Parallel(), weights=Weights(10, batch_size=16)),
        ACP(4, **AS_GIVEN, neuron=Parallel(), weights=LeastSquares(), convert_avg_pool=True),
        Best(4, **AS_GIVEN, neuron=Parallel(), distillation=Distillation(iterations=30, batch_size=16)),
        LCP(4, neuron=Parallel(), precision="bf16"),
        LCP(4, neuron=Parallel(), max_pooling="keep"),
        Best(
            4, **AS_GIVEN, neuron=Parallel(), max_pooling="keep", distillation=Distillation(20, batch_size=16)
        ),
    ],
    ids=["baseline", "lcp", "search", "acp", "least_squares", "best", "bf16", "keep", "keep and best"],
)
def test_every_pipeline(cls: type[nn.Module], pipeline: Pipeline) -> None:
    ann, images = toy(cls), inputs(cls, 32)
    snn = calibrate(ann, [images], pipeline, progress=False)
    expected = ann(images).detach()
    error = ((snn(images) - expected).norm() / expected.norm()).item()
    plain = convert(ann, images, 4, neuron=Parallel(), **{"threshold": pipeline.threshold})
    uncalibrated = ((plain(images) - expected).norm() / expected.norm()).item()
    assert error <= uncalibrated * (1 + 1e-6)
    *sites, last = (record for record in snn.records if record["kind"] != "network")
    if not isinstance(pipeline, Best):
        tolerance = 0.05 if pipeline.precision == "bf16" else 1e-3
        assert last["error"] == pytest.approx(error**2, rel=tolerance)
    assert all(0 < r["firing_rate"] < 1 for r in sites if r["kind"] == "neuron")
    mismatch = measure_mismatch(ann, snn, images)
    if pipeline.max_pooling != "keep":
        assert all(stage.norms.unevenness == 0 for stage in mismatch.stages)
    if pipeline.precision != "bf16":  # where the value of a spike is rounded, or that of a count
        torch.testing.assert_close(snn.running_mean(images)[-1], snn(images), rtol=1e-4, atol=1e-4)


def test_uneven_input_has_no_part_in_the_error_and_has_with_other_neurons() -> None:
    ann, images = toy(Residual), inputs(Residual, 32)
    parts = {
        neuron: measure_mismatch(ann, convert(ann, images, 4, neuron=neuron), images).mean.norms
        for neuron in (Parallel(), IF())
    }
    assert parts[Parallel()].unevenness == 0 < parts[IF()].unevenness
    assert parts[Parallel()].quantisation == pytest.approx(parts[IF()].quantisation)


def test_the_loss_of_the_weights_is_the_simulated_error() -> None:
    ann, images = toy(Residual), inputs(Residual, 32)
    pipeline = ACP(4, **AS_GIVEN, neuron=Parallel(), weights=Weights(10, batch_size=16), potential=None)
    for record in calibrate(ann, [images], pipeline, progress=False).records:
        assert record["steps"]["weights"]["after"] == pytest.approx(record["error"], rel=1e-5)


def test_the_potential_of_each_neuron_moves_its_count() -> None:
    ann, images = toy(Vector), inputs(Vector, 40)
    snn = calibrate(ann, [images], ACP(3, neuron=Parallel(), weights=None), progress=False)
    unit = next(iter(snn.neurons.values()))
    assert (unit.v_init != unit.v_th / 2).any()
    with torch.no_grad():
        current = ann.layers[1](ann.layers[0](images))
        count = ((3 * current + unit.v_init) / unit.v_th).floor().clamp(0, 3)
        train = next(iter(snn.spikes(images).values()))
    assert ((train > 0).sum(0) != count).float().mean() < 0.01


def test_a_maximum_of_spikes_is_the_maximum_of_the_rates() -> None:
    """Both inputs of a pool begin to fire at step 1, and so an OR of them lasts as long as the longer one."""
    images = inputs(MaxPooled, 16)
    gated, kept = (
        convert(toy(MaxPooled), images, 6, neuron=Parallel(), max_pooling=pooling)
        for pooling in ("gated", "keep")
    )
    assert (gated.simulated_steps, kept.simulated_steps) == (1, 6)
    torch.testing.assert_close(gated(images), kept(images), rtol=1e-4, atol=1e-5)
    binary = convert(toy(MaxPooled), images, 6, max_pooling="keep")
    assert not torch.allclose(binary(images), kept(images), atol=1e-2)


def test_spikes_and_operations_are_counted() -> None:
    ann = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    with torch.no_grad():
        for layer in ann[::2]:
            layer.bias.zero_()
            layer.weight.fill_(0.5)
        ann[0].weight.copy_(torch.eye(2))
    images = torch.tensor([[1.0, 0.5], [1.0, 0.0], [-1.0, -1.0]])
    snn = convert(ann, images, 8, neuron=Parallel(), rounding="floor")
    for unit in snn.neurons.values():
        unit.set_threshold(torch.ones_like(unit.v_th), "floor", 8)
    report = measure_energy(snn, images)
    # Means of 1, 0.5 and 0 are 8, 4 and 0 spikes; of 0.75 and 0.5 in the second layer 6 and 4, five times.
    assert [stage.spikes * 3 for stage in report.stages] == [20, 50, 0]
    assert [stage.accumulates * 3 for stage in report.stages] == [0, 20 * 5, 50 * 3]
    pooled = convert(toy(MaxPooled), inputs(MaxPooled, 4), 12, neuron=Parallel())
    stages = measure_energy(pooled, inputs(MaxPooled, 4)).stages
    trains = pooled.spikes(inputs(MaxPooled, 4))
    fired = [(train > 0).sum().item() / 4 for train in trains.values()]
    assert [stage.spikes for stage in stages if stage.kind == "neuron"] == fired
    # Of the spikes that a gate passes each reaches the ten kernels at nine places, but for the edges.
    through = F.max_pool2d((trains["relu"] > 0).sum(0).float(), 3, 2, 1)
    kernel = torch.ones(10, 8, 3, 3)
    assert stages[2].accumulates == pytest.approx(F.conv2d(through, kernel, padding=1).sum().item() / 4)


@torch.no_grad()
def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    ann, images = toy(Residual), inputs(Residual, 16)
    snn = calibrate(ann, [images], LCP(4, neuron=Parallel()), progress=False)
    save_converted(snn, tmp_path / "snn.ckpt")
    loaded = load_converted(tmp_path / "snn.ckpt")
    assert (loaded.neuron, loaded.simulated_steps, loaded.latency_steps) == (Parallel(), 1, snn.latency_steps)
    assert torch.equal(loaded(images), snn(images))
    for name, train in snn.spikes(images).items():
        assert torch.equal(loaded.spikes(images)[name], train)


def test_neither_chunks_nor_processes_nor_the_cache_change_the_result() -> None:
    ann, images = toy(MaxPooled), inputs(MaxPooled, 40)
    settings = {"neuron": Parallel(), "weights": Weights(5, batch_size=16)}
    models = [
        calibrate(ann, [images], ACP(9, **settings, **more), progress=False)
        for more in ({}, {"cache_place": "disk"}, {"cache_budget_gb": 1e-5})
    ]
    assert all(same_bits(models[0], model) for model in models[1:])
    for model in in_two_threads(ann, [images], ACP(9, **settings)):
        assert largest_difference(parameters(model), parameters(models[0])) < 1e-4


@torch.no_grad()
def test_analog_regions_read_the_mean() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Softmax(1), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    x = torch.rand(6, 4)
    snn = convert(ann, x, 4, analog=("Softmax",), neuron=Parallel())
    first, second = snn.neurons.values()
    hidden = ann[2](first.expected_rate(ann[0](x), 4))
    torch.testing.assert_close(snn(x), ann[5](second.expected_rate(ann[3](hidden), 4)))
    torch.testing.assert_close(snn.running_mean(x)[-1], snn(x))
    # The first neuron, the softmax that reads it, the second neuron, the readout.
    assert (snn.windows, snn.latency_steps) == (2, 4 * 4)


def test_what_needs_single_time_steps_is_refused() -> None:
    images = inputs(Residual, 2)
    snn = convert(toy(Residual), images, 4, neuron=Parallel())
    message = r"Neurons Parallel\(\) wait for all 4 time steps of their input: simulate them together"
    with pytest.raises(SettingsError, match=message):
        snn.initial_state(images)
    state = convert(toy(Residual), images, 4).initial_state(images)
    with pytest.raises(SettingsError, match=message):
        snn.step(state)
    with pytest.raises(SettingsError, match=r"Parallel\(\) have no membrane potential at every time step"):
        membrane_potentials(snn, images[:1], "relu")
    neuron = ParallelNeuron()
    _, state = neuron(torch.ones(3, 1, 1), None, 3)
    with pytest.raises(SettingsError, match="a ParallelNeuron takes all time steps of an inference at once"):
        neuron(torch.ones(3, 1, 1), state, 3)
    snn.neurons["relu"].v_init = torch.ones(8, 4, 4)
    with pytest.raises(SettingsError, match="the input has another size than the calibration images"):
        snn(images)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        Parallel(spikes=2)
    assert Signed().build().levels == 1
