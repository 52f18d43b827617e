"""Operations and bytes against counts by hand, torch's own counter and the cache of a real sweep."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from snn_lightning import ACP, LCP, Augmentation, Best, Distillation, LeastSquares, Pipeline, Weights
from snn_lightning.analysis.cost.operations import estimate_cost
from snn_lightning.analysis.cost.timing import (
    Machine,
    Prices,
    estimate_seconds,
)
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.steps.muon import orthogonal
from snn_lightning.calibration.steps.ridge import columns
from snn_lightning.calibration.walk.cache import Cache
from snn_lightning.graph import INPUT
from snn_lightning.graph.operators import groups_of, traits_of
from tests.analysis.support import cost_of, network_of
from tests.calibration.support import make_loop
from tests.families import family, images
from tests.toys import (
    AS_GIVEN,
    INPUT_SHAPES,
    TOYS,
    Bottleneck,
    Dense,
    MaxPooled,
    PlainConv,
    Residual,
    Signal,
    inputs,
    toy,
)


class Hourglass(nn.Module):
    """Transposed, grouped and dilated convolutions, and a linear layer at each position."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=2)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2)
        self.along = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.along(F.relu(self.up(F.relu(self.down(x)))))


def counted(function: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() // 2


# Two convolutions and the linear layer of PlainConv.
FIRST, SECOND, LAST = 8 * 8 * 8 * 27, 12 * 4 * 4 * 72, 12 * 5


def test_a_plain_network_by_hand() -> None:
    cost = cost_of(PlainConv, Work(images=10, timesteps=4))
    assert [s.macs for s in cost.stages] == [FIRST, SECOND, LAST]
    assert (cost.macs, cost.static_macs) == (FIRST + SECOND + LAST, FIRST)
    assert ([s.neurons for s in cost.stages], cost.neurons) == ([512, 192, 0], 704)
    assert cost.image_macs == FIRST + 4 * (SECOND + LAST)
    assert cost.simulation_macs == 10 * cost.image_macs
    assert cost.neuron_updates == 10 * 4 * 704
    # The thresholds alone: the ANN and the SNN once.
    assert (cost.sweep_macs, cost.weight_macs) == (10 * cost.macs + cost.simulation_macs, 0)


def test_the_cache_of_a_plain_network_by_hand() -> None:
    cost = cost_of(PlainConv, Work(images=10, timesteps=4, corrected=10))
    image, first, second = 4 * 192, 512, 192
    # Images, activations and spikes of the first site; its current, which is static.
    assert cost.memory(0) == (10 * (image + 4 * first + 4 * first // 8 + 4 * first), 0)
    # The images are gone; activations and spikes of both sites, the current of the second at 4 time steps.
    bits = 4 * (first + second) // 8
    assert cost.memory(1) == (10 * (4 * (first + second) + bits + 4 * 4 * second), 0)
    assert cost.peak_bytes == cost.memory(1)[0]


def test_what_has_no_room_goes_to_disk_or_is_computed_again() -> None:
    work = Work(images=10, timesteps=4, corrected=10)
    free, small, none = (
        cost_of(PlainConv, Work(**{**vars(work), "budget": budget})) for budget in (None, 40_000.0, 1.0)
    )
    assert free.held(1) == 1
    assert 0 < small.held(1) < 1
    assert small.peak_bytes <= 40_000
    assert small.disk_bytes == 0
    assert (none.held(1), none.peak_bytes) == (0, 1)
    again = 10 * none.stages[1].simulated_macs(4)
    assert none.swept_macs(1) == free.swept_macs(1) + again
    assert none.disk_bytes + 1 == max(free.memory(i)[0] - free._currents(i) for i in range(3))


def test_weight_calibration_by_hand() -> None:
    cost = cost_of(PlainConv, Work(100, 4, iterations=7, batch_size=16, power_iterations=8))
    # Forward and the weight's gradient a step; a forward and a step a power iteration, and one forward more;
    # the error of all images before and after.
    for index, macs in enumerate((FIRST, SECOND, LAST)):
        curvature = 16 * (macs + 8 * (macs + 2 * macs))
        assert cost.trained_macs(index) == 7 * 16 * 2 * macs + curvature + 2 * 100 * macs
    assert cost.weight_macs == sum(cost.trained_macs(i) for i in range(3))
    without = cost_of(PlainConv, Work(100, 4, iterations=7, batch_size=16, readout=False))
    assert without.weight_macs == sum((7 * 16 * 2 + 200) * macs for macs in (FIRST, SECOND))


@pytest.mark.parametrize("cls", [*TOYS, Hourglass])
def test_macs_are_half_of_torchs_flops(cls: type[nn.Module]) -> None:
    x = torch.randn(1, 4, 8, 8) if cls is Hourglass else inputs(cls, 1)
    ann = cls().eval() if cls is Hourglass else toy(cls)
    network = network_of(ann, x)
    cost = estimate_cost(network, x.shape[1:], Work(1, 1))
    assert cost.macs == counted(lambda: network(x)) == counted(lambda: ann(x))


@pytest.mark.parametrize("name", ["resnext", "googlenet", "shufflenet_v2", "regnet_x"])
def test_macs_of_torchvisions_families(name: str) -> None:
    ann, x = family(name), images(name, 1)
    cost = estimate_cost(network_of(ann, x), x.shape[1:], Work(1, 1))
    assert cost.macs == counted(lambda: ann(x))


def test_on_the_meta_device_nothing_is_computed() -> None:
    network = network_of(toy(Residual), inputs(Residual))
    real = estimate_cost(network, INPUT_SHAPES[Residual], Work(8, 4))
    assert estimate_cost(network.to("meta"), INPUT_SHAPES[Residual], Work(8, 4)) == real


class Chain(nn.Module):
    """Two convolutions behind each other in a stage: the second gives the first its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AvgPool2d(2), nn.Conv2d(5, 4, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize("cls", [PlainConv, Residual, Dense, MaxPooled, Chain])
def test_macs_of_an_sgd_step_are_half_of_torchs_flops(cls: type[nn.Module]) -> None:
    x = torch.randn(1, 3, 8, 8)
    network = network_of(toy(cls) if cls in TOYS else Chain().eval(), x)
    cost = estimate_cost(network, x.shape[1:], Work(1, 1))
    values = network.run_operators(network.nodes, {INPUT: x})
    for stage, sizes in zip(network.stages, cost.stages, strict=True):
        synapses = [network.operators[n] for n in stage.operators]
        weights = [m.weight for m in synapses if traits_of(m).weighted]
        assert sizes.weights == sum(w.numel() for w in weights)
        if not weights:
            assert sizes.gradient_macs == 0
            continue
        network.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        given = {key: values[key].detach() for key in stage.inputs}

        def step(stage: Any = stage, given: Any = given, weights: Any = weights) -> None:
            current = network.run_operators(stage.operators, given)[stage.current]
            torch.autograd.grad(current.sum(), weights)

        assert sizes.gradient_macs == counted(step)


@pytest.mark.parametrize("cls", [PlainConv, Bottleneck, Residual, Signal])
def test_the_gram_matrices_of_least_squares(cls: type[nn.Module]) -> None:
    cost = cost_of(cls, Work(10, 4, solutions=2))
    network = network_of(toy(cls), inputs(cls))
    values = network.run_operators(network.nodes, {INPUT: inputs(cls, 1)})
    for stage, sizes in zip(network.stages, cost.stages, strict=True):
        count = 0
        for name in stage.operators:
            module = network.operators[name]
            if traits_of(module).weighted:
                design = columns(module, values[network.nodes[name].inputs[0]])
                count += counted(lambda design=design: design.mT @ design)
        assert sizes.gram_macs == count


def test_weights_in_closed_form_and_distillation_by_hand() -> None:
    work = Work(100, 4, solutions=3, solved=60, distilled=640, processes=2)
    cost = cost_of(PlainConv, work)
    stage = cost.stages[1]
    assert cost.trained_macs(1) == 200 * stage.macs + 60 * (7 * stage.macs + stage.gram_macs)
    assert cost.distilled_macs == 3 * 640 * cost.image_macs
    stepped = replace(cost, work=replace(work, distilled_steps=20))
    products = sum(stage.muon_macs for stage in cost.stages)
    assert stepped.distilled_macs == cost.distilled_macs + 20 * products
    prices = [Prices(forward=1.0, unit=0.1, look=0.01, hold=0.001)] * 3
    seconds = estimate_seconds(cost, prices)
    passes = 100 + 30 * (7 + stage.gram_macs / stage.macs)
    assert seconds.weights[1] == pytest.approx(passes + 30 * 2 * 3 * 0.01)
    assert seconds.distillation == pytest.approx(3 * 320 * seconds.simulation)
    later = estimate_seconds(stepped, prices).distillation - seconds.distillation
    assert later == pytest.approx(20 * sum(stage.muon_macs / stage.macs for stage in cost.stages))
    assert seconds.calibration == pytest.approx(sum(seconds.stages) + seconds.distillation)
    assert "Distillation: " in str(cost)


def test_augmentation_keeps_the_originals_and_asks_the_ann_for_each_copy() -> None:
    work = Best(4, augment=Augmentation(images=100), distillation=Distillation(20)).work(30, 2)
    assert (work.images, work.originals, work.distilled) == (100, 30, 640)
    cost, plain = (cost_of(PlainConv, w) for w in (work, replace(work, originals=0)))
    assert cost.distilled_macs - plain.distilled_macs == 640 * cost.macs
    assert cost.peak_bytes - plain.peak_bytes == 4 * 30 * inputs(PlainConv, 1).numel()
    prices = [Prices(forward=1.0, unit=0.1, look=0.01, hold=0.001)] * 3
    seconds, less = (estimate_seconds(c, prices).distillation for c in (cost, plain))
    assert seconds - less == pytest.approx(320 * 3.0)
    assert LCP(4, augment="auto").work(30).originals == 30
    assert LCP(4, augment="auto").work(4000) == LCP(4).work(4000)


PIPELINES: dict[str, Pipeline] = {
    "lcp": LCP(4),
    "acp": ACP(4, **AS_GIVEN, weights=Weights(2, batch_size=8)),
    "least_squares": ACP(4, **AS_GIVEN, weights=LeastSquares()),
    "best": Best(4, **AS_GIVEN, distillation=Distillation(2, batch_size=8)),
}


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("cls", [PlainConv, Residual, Dense, MaxPooled, Bottleneck])
def test_the_cache_of_a_real_sweep(
    cls: type[nn.Module], pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest, put, workspace = [0], Cache.put, Cache.workspace

    def noted(original: Any) -> Any:
        def call(cache: Cache, *arguments: Any) -> Any:
            result = original(cache, *arguments)
            largest[0] = max(largest[0], cache.used)
            return result

        return call

    monkeypatch.setattr(Cache, "put", noted(put))
    monkeypatch.setattr(Cache, "workspace", noted(workspace))
    settings = PIPELINES[pipeline]
    loop = make_loop(toy(cls), inputs(cls, 32), settings)
    loop.run()
    cost = estimate_cost(loop.ann, INPUT_SHAPES[cls], settings.work(32))
    assert cost.peak_bytes == pytest.approx(largest[0], rel=0.01)
    assert cost.disk_bytes == 0


def test_several_processes_share_images_and_reduce_gradients() -> None:
    work = Work(100, 4, iterations=10, processes=8)
    assert work.share(100) == 13
    alone, together = (cost_of(PlainConv, w) for w in (Work(100, 4, iterations=10), work))
    assert (alone.reduced_bytes(0), together.reduced_bytes(0)) == (0, 4 * (8 * 27 + 2))
    assert together.weight_macs == alone.weight_macs
    assert together.peak_bytes == pytest.approx(alone.peak_bytes * 13 / 100, rel=0.01)
    machine = Machine(macs=1e6, bytes=1e12, call=0.5, link=1e3, latency=0.25)
    steps = [machine.prices(cost)[0].step for cost in (alone, together)]
    assert steps[0] == pytest.approx(0.5 + 32 * 2 * FIRST / 1e6, rel=1e-3)
    link = 0.25 + 2 * 7 / 8 * together.reduced_bytes(0) / 1e3
    assert steps[1] == pytest.approx(0.5 + work.largest_batch * 2 * FIRST / 1e6 + link, rel=1e-3)


def test_the_table() -> None:
    work = Work(64, 4, 64, iterations=100)
    shown = str(cost_of(Residual, work)).splitlines()
    assert "64 images at T=4" in shown[0]
    assert shown[1].split() == ["stage", "MACs", "static", "neurons", "simulation", "weights", "cache"]
    assert len({len(line) for line in shown[1:-2]}) == 1
    assert shown[-3].startswith("total")
    assert "neuron updates" in shown[-2]
    assert shown[-1].endswith("0 B on disk")


def test_the_products_of_muon() -> None:
    network = network_of(toy(Bottleneck), inputs(Bottleneck))
    expected = 0
    for module in network.operators.values():
        if traits_of(module).weighted and groups_of(module) == 1:
            expected += counted(lambda weight=module.weight: orthogonal(weight.detach().flatten(1)))
    assert sum(stage.muon_macs for stage in cost_of(Bottleneck, Work(1, 1)).stages) == expected
