"""Weights in closed form: the design matrix, the ridge solution, and what it does to a stage."""

import numpy as np
import pytest
import torch
from torch import nn

from snn_lightning import ACP, LeastSquares, Max, calibrate
from snn_lightning.calibration.steps import least_squares
from snn_lightning.calibration.steps.least_squares import synapse_sums
from snn_lightning.calibration.steps.ridge import RidgeProblem, columns, weight_moment
from snn_lightning.calibration.walk.cache import StoredSpikes
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.graph import normalise, prepare
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.units import Readout
from tests.calibration.support import (
    Custom,
    Probe,
    activations,
    literal_simulation,
    make_loop,
    run,
    same_bits,
)
from tests.toys import AS_GIVEN, Bottleneck, Dense, PlainConv, Residual, Signal, Vector, Volume, inputs, toy

SYNAPSES = {
    "plain": (nn.Conv2d(4, 6, 3), (4, 7, 6)),
    "padded, strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 7, 6)),
    "oblong": (nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (4, 9, 6)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 5, 5)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), (4, 5, 5)),
    "pointwise": (nn.Conv2d(4, 6, 1, stride=2), (4, 5, 5)),
    "same": (nn.Conv2d(4, 6, 4, padding="same", dilation=2), (4, 9, 9)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (4, 5, 5)),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (4, 5, 5)),
    "circular": (nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular"), (4, 5, 5)),
    "one dimension": (nn.Conv1d(4, 6, 5, padding=2, dilation=2), (4, 11)),
    "three dimensions": (nn.Conv3d(4, 6, (1, 2, 3), padding=(0, 1, 1), groups=2), (4, 3, 4, 5)),
    "linear": (nn.Linear(5, 6), (5,)),
    "linear at every position": (nn.Linear(5, 6), (3, 2, 5)),
}


def rows(module, y):
    """Values at the synapse's output, a row a position, `[groups, rows, outputs / groups]`."""
    if isinstance(module, nn.Linear):
        return y.flatten(0, -2)[None]
    return y.flatten(2).unflatten(1, (module.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


@pytest.mark.parametrize("name", SYNAPSES)
def test_columns_times_weight_is_the_synapse(name):
    module, shape = SYNAPSES[name]
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    groups = getattr(module, "groups", 1)
    weight = module.weight.detach().flatten(1).unflatten(0, (groups, -1))
    output, design = module(x).detach(), columns(module, x)
    product = design @ weight.mT + module.bias.detach().view(groups, 1, -1)
    torch.testing.assert_close(product, rows(module, output), atol=1e-5, rtol=1e-5)
    moment = weight_moment(module, x, output)
    torch.testing.assert_close(moment, design.mT @ rows(module, output), atol=1e-4, rtol=1e-4)
    assert columns(module, x[:0]).shape == (groups, 0, weight.shape[2])


def test_the_solution_is_that_of_the_ridge_regression():
    """Against numpy: the ridge as more rows, the bias without any, the pull towards the old weights."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, generator=generator)
    network = prepare(normalise(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), x), x)
    name = network.stages[0].current
    linear = network.operators[name]
    old = linear.weight.detach().clone()
    x, residual = (torch.randn(20, width, generator=generator) for width in (4, 3))
    problem = RidgeProblem(network, (name,), Readout())
    key = network.nodes[name].inputs[0]
    bias = linear.bias.detach().clone()
    problem.add({key: x[:13]}, residual[:13])
    problem.add({key: x[13:]}, residual[13:])
    ridge = 0.5
    problem.solve(ridge, Communicator())
    size = ridge * (x.double() ** 2).sum().item() / 4
    design = np.vstack([np.hstack([x.double().numpy(), np.ones((20, 1))]), np.sqrt(size) * np.eye(5)[:4]])
    target = np.vstack([residual.double().numpy(), np.zeros((4, 3))])
    expected = np.linalg.lstsq(design, target, rcond=None)[0]
    change = linear.weight.detach() - old
    torch.testing.assert_close(change.double(), torch.from_numpy(expected[:4].T), atol=1e-5, rtol=1e-4)
    moved = (linear.bias.detach() - bias).double()
    torch.testing.assert_close(moved, torch.from_numpy(expected[4]), atol=1e-5, rtol=1e-4)
    # What is left of the residual has the same solution: nothing moves any more.
    before = linear.weight.detach().clone()
    left = residual - (x @ change.T + moved.float())
    problem.add({key: x}, left)
    problem.solve(ridge, Communicator())
    torch.testing.assert_close(linear.weight.detach(), before, atol=1e-5, rtol=1e-4)


def _sums(cls):
    ann, x = toy(cls), inputs(cls)
    network = prepare(normalise(ann, x), x)
    shapes = {name: value.shape for name, value in activations(network, x).items()}
    return [len(part.synapses) for stage in network.stages for part in synapse_sums(network, stage, shapes)]


def test_synapses_that_are_added_up_are_solved_together():
    assert _sums(PlainConv) == [1, 1, 1]
    # The last site of the residual network has the block's convolution and the 1x1 shortcut.
    assert _sums(Residual) == [1, 1, 1, 1, 2, 1]
    # A projection and the expansion behind it are two problems, one after the other.
    assert sum(_sums(Bottleneck)) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in Bottleneck().modules())
    assert set(_sums(Bottleneck)) == {1}


def damage(context):
    """Change the stage's weights, so that there is something to repair."""
    for name in context.stage.operators:
        weight = getattr(context.snn.network.operators[name], "weight", None)
        if weight is not None:
            weight.data.mul_(0.8).add_(0.01)


@pytest.mark.parametrize("cls", [PlainConv, Residual, Bottleneck, Dense, Signal, Volume, Vector])
def test_lowers_the_expected_error_where_weights_were_damaged(cls):
    model = run(toy(cls), inputs(cls, 40), Custom(8, first=Probe(damage), second=LeastSquares(1e-3)))
    reports = [record["steps"]["least_squares"] for record in model.records]
    assert all(numbers["left"] == 0 for numbers in reports)
    assert all(numbers["after"] <= numbers["before"] for numbers in reports)
    assert sum(numbers["after"] for numbers in reports) < 0.5 * sum(numbers["before"] for numbers in reports)


def test_gives_the_weights_back_that_explain_the_images():
    """Static inputs, the first stage: damaged weights return to the ANN's, but for the ridge."""
    ann, images = toy(PlainConv), inputs(PlainConv, 40)
    loop = make_loop(ann, images, Custom(8, first=Probe(damage), second=LeastSquares(1e-6, iterations=1)))
    loop.run()
    name = loop.snn.network.stages[0].operators[-1]
    ours, theirs = (network.operators[name] for network in (loop.snn.network, loop.ann))
    torch.testing.assert_close(ours.weight, theirs.weight, atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(ours.bias, theirs.bias, atol=1e-3, rtol=1e-2)


def test_the_clipped_form_counts_only_what_the_neuron_can_show():
    """Pre-activations far below zero don't matter: the clipped solution has the lower error of the rate."""
    errors = {}
    for iterations in (1, 6):
        step = LeastSquares(1e-4, iterations=iterations)
        pipeline = Custom(64, threshold=Max(), first=Probe(damage), second=step)
        model = run(toy(Residual), inputs(Residual, 40), pipeline)
        errors[iterations] = model.records[2]["steps"]["least_squares"]["after"]
    assert errors[6] < errors[1]


def test_lowers_the_error_at_the_readout_in_acp():
    ann, images = toy(Residual), inputs(Residual, 64)
    plain = run(ann, images, ACP(4, held_out=0, weights=None, potential=None))
    solved = run(ann, images, ACP(4, held_out=0, weights=LeastSquares(), potential=None))
    assert solved.records[-1]["error"] < 0.6 * plain.records[-1]["error"]
    name, target = solved.network.stages[-1].name, ann(images).detach()
    error = literal_simulation(solved, images)[name] - target
    relative = (error.square().sum() / target.square().sum()).item()
    assert relative == pytest.approx(solved.records[-1]["error"], rel=1e-4)


def test_the_same_images_give_the_same_weights():
    images = inputs(Residual, 24)
    models = [run(toy(Residual), images, ACP(4, held_out=0, weights=LeastSquares())) for _ in range(2)]
    assert same_bits(*models)


def test_what_does_not_change_between_the_solutions_is_computed_once(monkeypatch):
    """The means of the spikes and the ANN's currents; the SNN's currents each time, and for both errors."""
    computed, get, run_operators = (
        {"means": 0, "ann": 0, "snn": 0},
        StoredSpikes.get,
        StageNetwork.run_operators,
    )
    images = inputs(PlainConv, 24)

    def measure(context):
        second = context.stage is context.snn.network.stages[1]

        def counted_get(stored):
            computed["means"] += second
            return get(stored)

        def counted_run(network, *arguments):
            if second:
                computed["ann" if network is context.ann else "snn"] += 1
            return run_operators(network, *arguments)

        monkeypatch.setattr(StoredSpikes, "get", counted_get)
        monkeypatch.setattr(StageNetwork, "run_operators", counted_run)

    def stop(context):
        monkeypatch.undo()

    steps = {"first": Probe(measure), "second": LeastSquares(iterations=3), "third": Probe(stop)}
    run(toy(PlainConv), images, Custom(4, **steps))
    # Once more at first, for the shapes.
    assert computed == {"means": 1, "ann": 1, "snn": 3 + 2 + 1}


def test_uses_as_many_images_as_it_is_told():
    images = inputs(Residual, 48)
    few = run(toy(Residual), images, ACP(4, held_out=0, weights=LeastSquares(images=16), potential=None))
    other = images.clone()
    other[16:] = other[16:].flip(0)
    same = run(toy(Residual), other, ACP(4, held_out=0, weights=LeastSquares(images=16), potential=None))
    name = few.network.stages[0].operators[-1]
    assert torch.equal(few.network.operators[name].weight, same.network.operators[name].weight)
    with pytest.raises(CalibrationError, match="100"):
        calibrate(
            toy(Residual), [images], ACP(4, **AS_GIVEN, weights=LeastSquares(images=100)), progress=False
        )


def test_leaves_synapses_alone_that_are_too_wide(monkeypatch):
    monkeypatch.setattr(least_squares, "LARGEST", 8 * 9 - 1)
    loop = make_loop(toy(PlainConv), inputs(PlainConv, 40), ACP(4, held_out=0, weights=LeastSquares()))
    records = loop.run()
    assert [record["steps"]["least_squares"]["left"] for record in records] == [0, 1, 0]
    wide = loop.snn.network.stages[1].operators[-1]
    pairs = ((n.operators[wide].weight) for n in (loop.snn.network, loop.ann))
    assert torch.equal(*pairs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ridge": 0}, "weights.ridge must be a positive number, got 0"),
        ({"ridge": float("nan")}, "weights.ridge must be a positive number"),
        ({"iterations": 0}, "weights.iterations must be a whole number of at least 1, got 0"),
        ({"images": 1.5}, "weights.images must be a whole number"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        LeastSquares(**settings)
