"""A network, or a model with networks in it, gives what it has after t time steps."""

import pytest
import torch
from torch import nn

from snn_lightning import Baseline, Parallel, Switch, calibrate, convert
from snn_lightning.errors import SettingsError
from snn_lightning.spiking.early import stopped_after

X = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("neuron", [None, Switch(), Parallel()])
@torch.no_grad()
def test_it_is_the_running_mean(neuron):
    snn = convert(network(), X, 5, neuron=neuron, rounding="floor" if neuron else None)
    snn.rows = 12  # two time steps at once
    means = snn.running_mean(X)
    for t in range(1, 6):
        with stopped_after(snn, t):
            torch.testing.assert_close(snn(X), means[t - 1])
    torch.testing.assert_close(snn(X), means[-1])


@torch.no_grad()
def test_the_code_around_a_part_runs_on_what_it_has_by_then():
    model = nn.Sequential(network(), nn.Sigmoid())
    model = calibrate(model, [X], Baseline(4), network="0", progress=False)
    with stopped_after(model, 2):
        torch.testing.assert_close(model(X), model[0].running_mean(X)[1].sigmoid())


def test_of_several_windows_the_last_one_stops():
    ann = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Softmax(1), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    snn = convert(ann, X, 4, analog=("Softmax",))
    assert snn.windows == 2
    with torch.no_grad(), stopped_after(snn, 1):
        torch.testing.assert_close(snn(X), snn.running_mean(X)[0])


def test_an_error_inside_leaves_no_trace():
    snn = convert(network(), X, 4)
    with pytest.raises(RuntimeError), stopped_after(snn, 1):
        snn(torch.rand(2, 5))
    assert snn.last_step is None


@pytest.mark.parametrize("t", [0, 1.5, 5])
def test_a_step_that_there_is_not(t):
    with pytest.raises(SettingsError, match=r"no time step 5|t must be a whole number"):
        stopped_after(convert(network(), X, 4), t).__enter__()
