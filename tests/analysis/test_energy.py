"""Spikes, synaptic operations and energy against counting one by one."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import IF, Burst, Signed, SpikingModel, convert
from snn_lightning.analysis.energy import AC, MAC, EnergyReport, StageEnergy, measure_energy
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import Neuron
from snn_lightning.thresholds import Percentile

from ..toys import Bottleneck, MaxPooled, PlainConv, Residual, inputs, toy

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
    found = [(s.spikes, s.accumulates, s.multiplications, s.ann) for s in report.stages]
    assert found == [
        pytest.approx((first, 0, 12, 12)),
        pytest.approx((second, 5 * first, 0, 20)),
        pytest.approx((0, 2 * second, 0, 10)),
    ]
    assert report.spikes == pytest.approx(first + second)
    assert report.firing_rate == pytest.approx((first + second) / (9 * 6))
    energy = AC * (5 * first + 2 * second) + MAC * 12
    assert report.energy == pytest.approx(energy)
    assert report.ann_energy == pytest.approx(4.6 * 42)
    assert report.results() == {
        "spikes_per_image": pytest.approx(first + second, abs=0.01),
        "firing_rate": pytest.approx((first + second) / 54, abs=1e-6),
        "synaptic_operations": pytest.approx(5 * first + 2 * second, abs=0.01),
        "energy_ratio": pytest.approx(energy / (4.6 * 42), abs=1e-6),
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


def test_what_is_printed() -> None:
    stage = StageEnergy("relu", "neuron", 100, 50.0, 2000.0, 300.0, 1000.0)
    text = str(EnergyReport((stage,), 2, 7))
    assert "T=2, mean over 7 images" in text
    rows = [line.split() for line in text.splitlines()]
    assert rows[2] == ["relu", "50", "0.250", "2.00", "k", "300", "1.00", "k"]
    assert rows[3][0] == "total"
    # 0.9 * 2000 + 4.6 * 300 = 3180 pJ of 4600.
    assert "Energy: 0.00318 µJ, 69.1 % of the ANN's 0.0046 µJ" in text


def test_no_image_is_refused() -> None:
    snn = convert(toy(PlainConv), inputs(PlainConv, 2), 2)
    with pytest.raises(SettingsError, match="counted on at least one"):
        measure_energy(snn, inputs(PlainConv, 2)[:0])
