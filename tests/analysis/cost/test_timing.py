"""From operations to seconds."""

import pytest
import torch
from torch import nn

from snn_lightning import ACP, LCP, Weights
from snn_lightning.analysis.cost.operations import estimate_cost
from snn_lightning.analysis.cost.timing import (
    NOMINAL,
    Prices,
    estimate_seconds,
    interpolate,
    measure_prices,
    spread,
)
from snn_lightning.analysis.cost.workload import Work
from tests.analysis.support import cost_of, network_of
from tests.toys import MaxPooled, PlainConv, Residual, inputs, toy


def test_seconds_by_hand() -> None:
    work = Work(100, 4, corrected=50, iterations=10, power_iterations=8)
    cost = cost_of(PlainConv, work)
    prices = [Prices(forward=1.0, unit=0.1, look=0.01, hold=0.001, step=5.0)] * 3
    seconds = estimate_seconds(cost, prices)
    # ANN, two looks, the simulation; then the neurons again, on currents that were kept.
    static = 100 * (1 + 0.02 + 1 + 0.4) + 50 * (0.4 + 0.01 + 0.001)
    temporal = 100 * (1 + 0.02 + 4 + 0.4) + 50 * (0.4 + 0.01 + 0.004)
    assert seconds.simulate == pytest.approx((static, temporal, temporal))
    assert seconds.weights == pytest.approx([10 * 5 + 8 * (5 + 32) + 200] * 3)
    assert seconds.calibration == pytest.approx(sum(seconds.simulate) + sum(seconds.weights))
    assert seconds.stages[0] == pytest.approx(static + 10 * 5 + 8 * 37 + 200)
    assert (seconds.forward, seconds.simulation) == pytest.approx((3.0, 1 + 0.4 + 2 * 4.4))


@pytest.mark.parametrize("cls", [Residual, MaxPooled])
def test_a_measurement_leaves_everything_as_it_is(cls: type[nn.Module]) -> None:
    x = inputs(cls)
    network = network_of(toy(cls), x)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    work = ACP(4).work(64)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    prices = measure_prices(network, x, work, seconds=0.2)
    cost = estimate_cost(network, x.shape[1:], work)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert len(prices) == len(network.stages)
    for stage, price in zip(cost.stages, prices, strict=True):
        assert price.forward > 0
        assert (price.step > 0) == (stage.weights > 0 and stage.kind != "gate")
        assert (price.unit > 0) == (stage.kind != "readout")
    assert estimate_seconds(cost, prices).calibration > 0


def test_more_work_is_foreseen_to_take_longer() -> None:
    machine = NOMINAL["cpu"]
    pipelines = LCP(4), LCP(8), ACP(8), ACP(8, weights=Weights(200))
    costs = [cost_of(Residual, pipeline.work(64)) for pipeline in pipelines]
    seconds = [estimate_seconds(cost, machine.prices(cost)).calibration for cost in costs]
    assert seconds == sorted(seconds)
    assert 1.8 < seconds[3] / seconds[2] < 2.1


def test_spreading() -> None:
    assert spread(0) == []
    assert spread(1) == [0]
    assert spread(2) == [1, 0]
    assert spread(9) == [8, 0, 4, 2, 6, 1, 3, 5, 7]
    assert all(sorted(spread(n)) == list(range(n)) for n in range(40))


def test_interpolation() -> None:
    points = [(4.0, 8.0), (1.0, 2.0)]
    assert [interpolate(x, points) for x in (0, 1, 2, 4, 9)] == [2, 2, 4, 8, 8]
    assert interpolate(3.0, []) == 0
