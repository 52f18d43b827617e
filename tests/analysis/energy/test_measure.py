"""Spikes, synaptic operations and energy against counting one by one."""

import functools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import IF, Burst, Signed, SpikingModel, convert
from snn_lightning.analysis.energy import EnergyModel, EnergyReport, StageEnergy, measure_energy
from snn_lightning.errors import SettingsError
from snn_lightning.graph import normalise
from snn_lightning.spiking import Neuron
from snn_lightning.thresholds import Percentile

from ...toys import Bottleneck, MaxPooled, PlainConv, Residual, inputs, toy

KINDS = [IF(), Signed(), Burst(2), Burst(3)]


def emitted(snn: SpikingModel, x: Tensor) -> dict[str, Tensor]:
    """The spikes of each neuron over all images and steps, `[C, ...]`."""
    trains = snn.spikes(x)
    return {
        name: (train / snn.neurons[name].v_th.view(-1, *[1] * (train.dim() - 3))).round().abs().sum((0, 1))
        for name, train in trains.items()
    }


def reached(conv: nn.Conv2d, counts: Tensor) -> float:
    """Synapses that spikes at `[C, H, W]` reach, one position after the other."""
    (k, _), (s, _), (p, _) = conv.kernel_size, conv.stride, conv.padding
    height, width = ((n + 2 * p - k) // s + 1 for n in counts.shape[1:])
    total = 0.0
    for y in range(counts.shape[1]):
        for x in range(counts.shape[2]):
            rows = sum(0 <= y + p - o * s < k for o in range(height))
            columns = sum(0 <= x + p - o * s < k for o in range(width))
            total += counts[:, y, x].sum().item() * rows * columns * conv.out_channels / conv.groups
    return total


def stages(report: EnergyReport) -> dict[str, StageEnergy]:
    return {stage.name: stage for stage in report.stages}


@pytest.mark.parametrize("neuron", KINDS, ids=str)
def test_a_chain_by_hand(neuron: Neuron) -> None:
    ann = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    snn = convert(ann, x, 6, neuron=neuron, threshold=Percentile(percentile=80.0))
    first, second = (count.sum().item() / 10 for count in emitted(snn, x).values())
    report = measure_energy(snn, x)
    one, two = ((ann[:upto](x) > 0).sum().item() / 10 for upto in (2, 4))
    found = [(s.spikes, s.accumulates, s.multiplications, s.ann, s.nonzero, s.active) for s in report.stages]
    assert found == [
        pytest.approx((first, 0, 12, 12, 12, one)),
        pytest.approx((second, 5 * first, 0, 20, 5 * one, two)),
        pytest.approx((0, 2 * second, 0, 10, 2 * two, 0)),
    ]
    assert report.spikes == pytest.approx(first + second)
    assert report.firing_rate == pytest.approx((first + second) / (9 * 6))
    energy = 0.9 * (5 * first + 2 * second) + 4.6 * 12
    assert report.energy == pytest.approx(energy)
    assert report.ann_energy == pytest.approx(4.6 * 42)
    assert report.results() == {
        "spikes_per_image": pytest.approx(first + second, abs=0.01),
        "firing_rate": pytest.approx((first + second) / 54, abs=1e-6),
        "synaptic_operations": pytest.approx(5 * first + 2 * second, abs=0.01),
        "energy_ratio": pytest.approx(energy / (4.6 * 42), abs=1e-6),
        "energy_ratio_zero_skipping": pytest.approx(energy / (4.6 * (12 + 5 * one + 2 * two)), abs=1e-6),
    }


@pytest.mark.parametrize("neuron", KINDS, ids=str)
def test_a_residual_network_spike_for_spike(neuron: Neuron) -> None:
    ann, x = toy(Residual), inputs(Residual, 5)
    snn = convert(ann, x, 4, neuron=neuron, threshold=Percentile(percentile=90.0))
    counts = emitted(snn, x)
    found = list(stages(measure_energy(snn, x)).values())
    # The sites in their order: stem, conv1, conv2 + stem, conv3, conv4 + down.
    stem, one, two, three, four = counts.values()
    wanted = [
        0.0,
        reached(ann.conv1, stem),
        reached(ann.conv2, one),
        reached(ann.conv3, two),
        reached(ann.conv4, three) + reached(ann.down, two),
        5 * four.sum().item(),
    ]
    assert [s.accumulates for s in found] == pytest.approx([n / 5 for n in wanted])
    assert [s.spikes for s in found[:-1]] == pytest.approx([c.sum().item() / 5 for c in counts.values()])
    ones = torch.ones(3, 8, 8)
    assert [s.multiplications for s in found] == [reached(ann.stem, ones), 0, 0, 0, 0, 0]
    assert found[3].ann == reached(ann.conv3, torch.ones(8, 8, 8))


def test_averages_pass_every_spike_on() -> None:
    ann, x = toy(PlainConv), inputs(PlainConv, 4)
    snn = convert(ann, x, 4)
    first, second = emitted(snn, x).values()
    found = measure_energy(snn, x).stages
    pooled = F.avg_pool2d(first, 2) * 4
    assert found[1].accumulates == pytest.approx(reached(ann.features[4], pooled) / 4)
    assert found[2].accumulates == pytest.approx(5 * second.sum().item() / 4)


@pytest.mark.parametrize("mode", ["gated", "keep"])
@pytest.mark.parametrize("neuron", KINDS, ids=str)
def test_a_max_pool_passes_on_what_it_gives_out(neuron: Neuron, mode: str) -> None:
    ann, x = toy(MaxPooled), inputs(MaxPooled, 4)
    snn = convert(ann, x, 4, max_pooling=mode, neuron=neuron)
    counts, trains = emitted(snn, x), snn.spikes(x)
    first = next(iter(trains))
    numbers = trains[first] / snn.neurons[first].v_th.view(-1, 1, 1)
    if mode == "keep":
        passed = ann.pool(numbers.flatten(0, 1)).unflatten(0, (4, 4))
    else:
        sums = ann.pool(numbers.cumsum(0).flatten(0, 1)).unflatten(0, (4, 4))
        passed = sums.diff(dim=0, prepend=torch.zeros_like(sums[:1]))
    found = stages(measure_energy(snn, x))
    wanted = reached(ann.conv2, passed.round().abs().sum((0, 1))) / 4
    second = list(counts)[1]
    assert found[second].accumulates == pytest.approx(wanted)
    assert sum(s.spikes for s in found.values()) == pytest.approx(
        sum(c.sum().item() for c in counts.values()) / 4
    )


def test_numbers_from_another_synapse_are_multiplied_at_every_step() -> None:
    ann, x = toy(Bottleneck), inputs(Bottleneck, 4)
    found = measure_energy(convert(ann, x, 3), x).stages
    last = found[2]
    # The projection receives spikes; what it gives is added to the stem, and goes through `last` as numbers.
    assert last.accumulates > 0
    assert last.multiplications == 3 * reached(ann.last, torch.ones(6, 8, 8))
    # Expanding is static: once.
    assert found[0].multiplications == reached(ann.stem, torch.ones(3, 8, 8)) + reached(
        ann.block[0], torch.ones(6, 8, 8)
    )


def test_the_mean_over_images_does_not_depend_on_chunks() -> None:
    snn = convert(toy(MaxPooled), inputs(MaxPooled, 4), 5, neuron=Signed())
    x = inputs(MaxPooled, 20)
    snn.rows = 10**6
    whole = measure_energy(snn, x)
    snn.rows = 1
    assert measure_energy(snn, x).results() == pytest.approx(whole.results(), rel=1e-6)
    assert not any(module._forward_hooks for module in snn.modules())


def by_hand() -> tuple[nn.Module, Tensor]:
    """Two images; the first site has 2 and 1 activations that are not 0, the second 4 and 4."""
    ann = nn.Sequential(
        nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)
    ).requires_grad_(False)
    ann[0].weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    ann[2].weight.fill_(1.0)
    ann[2].bias.fill_(0.0)
    return ann, torch.tensor([[0.5, 0.25, 0.0], [1.0, -1.0, 0.0]])


def test_what_is_multiplied_by_zero_is_skipped() -> None:
    ann, x = by_hand()
    snn = convert(ann, x, 4)
    report = measure_energy(snn, x)
    # Both images have two numbers that are not 0.
    assert [(s.ann, s.nonzero) for s in report.stages] == [(6, 4), (8, 6), (4, 4)]
    assert [(s.neurons, s.active) for s in report.stages] == [(2, 1.5), (4, 4), (0, 0)]
    assert report.skipping_energy == pytest.approx(4.6 * 14)
    assert report.skipping_ratio == pytest.approx(report.energy / (4.6 * 14))


def test_zeros_are_those_of_the_ann_that_is_given() -> None:
    ann, x = by_hand()
    snn = convert(ann, x, 4)
    # As a calibration changes biases; here it silences the second site.
    snn.network.operators["_2"].bias.fill_(-9.0)
    assert [stage.nonzero for stage in measure_energy(snn, x).stages] == [4, 6, 0]
    assert [stage.nonzero for stage in measure_energy(snn, x, ann=ann).stages] == [4, 6, 4]


def test_the_ann_may_come_in_stages() -> None:
    ann, x = toy(MaxPooled), inputs(MaxPooled, 4)
    snn, before = (convert(ann, x, 4, max_pooling="average") for _ in range(2))
    for unit in snn.network.operators.values():
        for parameter in unit.parameters():
            parameter.data.zero_()
    wanted = [stage.nonzero for stage in measure_energy(before, x).stages]
    for reference in (ann, before.network, normalise(ann, x)):
        assert [stage.nonzero for stage in measure_energy(snn, x, ann=reference).stages] == wanted
    assert [stage.nonzero for stage in measure_energy(snn, x).stages] != wanted


def test_analog_operators_multiply_everything() -> None:
    ann, x = toy(PlainConv), torch.zeros_like(inputs(PlainConv, 2))
    snn = convert(ann, inputs(PlainConv, 2), 2, analog=["head"])
    *_, tail = measure_energy(snn, x).stages
    assert (tail.name, tail.ann, tail.nonzero, tail.analog) == ("tail", 60, 60, 60)


def test_an_image_of_zeros_has_nothing_to_skip_to() -> None:
    ann = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    report = measure_energy(convert(ann, torch.rand(4, 3), 2), torch.zeros(2, 3))
    assert (report.skipping_energy, report.skipping_ratio) == (0, None)
    assert report.results()["energy_ratio_zero_skipping"] is None
    assert "skips zeros" not in str(report)


def test_the_same_spikes_at_other_prices() -> None:
    ann, x = by_hand()
    snn = convert(ann, x, 4)
    dear = EnergyModel(mac=2.0, ac=1.0, spike=3.0, weight=5.0)
    report, default = measure_energy(snn, x, model=dear), measure_energy(snn, x)
    assert report == replace(default, model=dear)
    spikes, added = report.spikes, report.synaptic_operations
    assert report.energy == 6 * added + 7 * 6 + 3 * spikes
    assert report.ann_energy == 7 * 18 + 3 * 6
    assert report.skipping_energy == 7 * 14 + 3 * 5.5
    assert report.ratio == report.energy / 144
    assert report.results()["energy_ratio"] == pytest.approx(report.energy / 144, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5]), min_size=3, max_size=3), min_size=1, max_size=4
    ),
    prices=st.tuples(st.floats(0.01, 10), *(st.floats(0, 10) for _ in range(3))),
)
def test_who_skips_zeros_never_pays_more(rows: list[list[float]], prices: tuple[float, ...]) -> None:
    x, snn = torch.tensor(rows), small()
    report = measure_energy(snn, x, model=EnergyModel(*prices))
    assert all(s.nonzero <= s.ann and s.active <= s.neurons for s in report.stages)
    assert report.skipping_energy <= report.ann_energy * (1 + 1e-12)
    assert report.stages[0].nonzero == pytest.approx(4 * (x != 0).sum().item() / len(x))
    # Where nothing is zero they are the same.
    full = measure_energy(snn, x.abs() + 1, model=EnergyModel(*prices))
    assert full.skipping_energy == pytest.approx(full.ann_energy)


@functools.cache
def small() -> SpikingModel:
    ann = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for parameter in ann.parameters():
        nn.init.constant_(parameter, 0.125)
    return convert(ann, torch.ones(1, 3), 2)


def test_no_image_is_refused() -> None:
    snn = convert(toy(PlainConv), inputs(PlainConv, 2), 2)
    with pytest.raises(SettingsError, match="counted on at least one"):
        measure_energy(snn, inputs(PlainConv, 2)[:0])


def test_prices_that_are_none_are_refused() -> None:
    snn, x = convert(toy(PlainConv), inputs(PlainConv, 2), 2), inputs(PlainConv, 2)
    with pytest.raises(SettingsError, match=r"energy must be an EnergyModel such as .*, got 4\.6"):
        measure_energy(snn, x, model=4.6)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="The SNN is not of this ANN"):
        measure_energy(snn, x, ann=toy(MaxPooled))
