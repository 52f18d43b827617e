"""Weight calibration: the loss, the loop against a literal one, and what happens when it goes wrong."""

import math

import pytest
import torch
from torch import nn

from snn_lightning import ACP, Max, Potential, Weights, calibrate
from snn_lightning.calibration.steps.minibatch_sgd import mini_batches
from snn_lightning.calibration.steps.weights import LayerLoop
from snn_lightning.errors import CalibrationError
from tests.calibration.support import Custom, Probe, activations, literal_simulation, make_loop, run
from tests.toys import Bottleneck, PlainConv, Residual, Vector, inputs, toy

TIMESTEPS, BATCH, COUNT, ITERATIONS = 4, 8, 20, 11


def damage(context):
    """Shrink the stage's weights, so that there is something to repair."""
    for name in context.stage.operators:
        weight = getattr(context.snn.network.operators[name], "weight", None)
        if weight is not None:
            weight.data.mul_(0.8)


def literal_sgd(weight, bias, unit, rates, targets, seed, rate):
    """SGD with momentum 0.9 and cosine decay on ||x - ClipRound(W s + b)||^2, its gradient written out."""
    weight, velocity = weight.clone(), torch.zeros_like(weight)
    batches = mini_batches(COUNT, BATCH, torch.Generator().manual_seed(seed))
    for i in range(ITERATIONS):
        chosen = next(batches)
        s, x = rates[chosen], targets[chosen]
        spikes = ((TIMESTEPS * (s @ weight.T + bias) + unit.v_init) / unit.v_th).floor()
        rounded = unit.v_th / TIMESTEPS * spikes.clamp(0, TIMESTEPS)
        inside = (spikes >= 0) & (spikes <= TIMESTEPS)
        # The floor passes straight through, so that the rate follows the current wherever it isn't clipped.
        gradient = ((2 / BATCH) * (rounded - x) * inside).T @ s
        velocity = 0.9 * velocity + gradient
        weight = weight - rate / 2 * (1 + math.cos(math.pi * i / ITERATIONS)) * velocity
    return weight


def test_equals_a_literal_loop():
    ann, images = toy(Vector), inputs(Vector, COUNT)
    rate, expected, units = 1e-2, {}, {}

    def remember(context):
        damage(context)
        name = context.stage.operators[-1]
        linear = context.snn.network.operators[name]
        loop = LayerLoop(Weights(batch_size=BATCH), context)
        (gathered,) = loop.gathered
        (inputs_,) = gathered.inputs.values()
        unit, seed = context.unit, 7 * 100_003 + len(expected)
        if context.stage.kind == "neuron":
            weight = literal_sgd(linear.weight, linear.bias, unit, inputs_, gathered.targets, seed, rate)
            expected[name], units[name] = weight, linear.weight.clone()

    settings = Weights(ITERATIONS, learning_rate=rate, batch_size=BATCH)
    loop = make_loop(ann, images, Custom(TIMESTEPS, seed=7, first=Probe(remember), second=settings))
    records = loop.run()
    assert len(expected) == 2
    assert [record["steps"]["weights"]["kept"] for record in records] == [1.0, 1.0, 1.0]
    for name, weight in expected.items():
        torch.testing.assert_close(loop.snn.network.operators[name].weight, weight, atol=1e-6, rtol=1e-5)
        assert (weight - units[name]).abs().max() > 1e-4


def test_a_mini_batch_of_two_sizes_is_the_mean_over_its_images():
    ann = toy(PlainConv)
    batches = [torch.randn(5, 3, size, 8) for size in (8, 6)]
    chosen, losses = torch.tensor([7, 1, 9, 4]), []

    def compare(context):
        damage(context)
        if not (loop := LayerLoop(Weights(batch_size=4), context)).weights:
            return
        for weight in loop.weights:
            weight.requires_grad_(True)
        images = [next(loop._batches(row)) for row in chosen.split(1)]
        errors = [(loop._predict(inputs_) - x).square() for inputs_, x in images]
        expected = torch.stack([error[..., None].flatten(2).mean(2).sum() for error in errors]).mean()
        parts = list(loop._loss_and_gradients(chosen))
        losses.append(len(parts))
        torch.testing.assert_close(sum(loss for loss, _ in parts), expected)
        sums = [sum(got) for got in zip(*(gradients for _, gradients in parts), strict=True)]
        torch.testing.assert_close(sums, list(torch.autograd.grad(expected, loop.weights)))
        for weight in loop.weights:
            weight.requires_grad_(False)

    calibrate(ann, batches, Custom(4, first=Probe(compare)), progress=False)
    assert losses == [2, 2, 2]


@pytest.mark.parametrize("cls", [PlainConv, Residual, Bottleneck])
def test_lowers_the_mean_field_error_in_every_stage(cls):
    settings = Weights(60, step_size=0.1, batch_size=16)
    model = run(toy(cls), inputs(cls, 40), Custom(4, first=Probe(damage), second=settings))
    reports = [record["steps"]["weights"] for record in model.records]
    assert sum(numbers["after"] for numbers in reports) < 0.8 * sum(numbers["before"] for numbers in reports)
    for numbers in reports:
        assert numbers["after"] < numbers["before"]
        losses = [value for name, value in numbers.items() if name.startswith("loss_")]
        assert len(losses) == 21
        # Of single mini-batches, each of other images.
        assert sum(losses[-5:]) < sum(losses[:5])


def test_every_synapse_of_a_stage_is_calibrated():
    ann, images = toy(Bottleneck), inputs(Bottleneck, 24)
    changed = {}

    def remember(context):
        damage(context)
        for name, module in context.snn.network.operators.items():
            if name in context.stage.operators and hasattr(module, "weight"):
                changed[name] = module.weight.clone()

    settings = Weights(10, step_size=0.1, batch_size=8)
    loop = make_loop(ann, images, Custom(4, first=Probe(remember), second=settings))
    loop.run()
    assert len(changed) == 6
    for name, weight in changed.items():
        assert not torch.equal(weight, loop.snn.network.operators[name].weight), name


def test_weights_that_end_up_worse_are_put_back():
    images = inputs(Vector, COUNT)
    loop = make_loop(
        toy(Vector), images, ACP(4, held_out=0, weights=Weights(5, learning_rate=1e3, batch_size=BATCH))
    )
    records = loop.run()
    for record, name in zip(records[:2], ("layers_0", "layers_4"), strict=True):
        assert record["steps"]["weights"]["kept"] == 0.0
        assert record["steps"]["weights"]["after"] == record["steps"]["weights"]["before"]
        assert torch.equal(loop.snn.network.operators[name].weight, loop.ann.operators[name].weight)


def test_a_loss_that_diverges_names_the_remedy():
    settings = Weights(60, learning_rate=1e30, batch_size=BATCH)
    with pytest.raises(
        CalibrationError, match=r"loss of 'readout_.*' is not finite: lower weights.learning_rate"
    ):
        run(toy(Vector), inputs(Vector, COUNT), ACP(4, held_out=0, weights=settings))


def test_curvature_is_the_largest_eigenvalue_of_the_hessian():
    found = {}

    def measure(context):
        loop = LayerLoop(Weights(batch_size=BATCH), context)
        (rates,), (weight,) = loop.gathered[0].inputs.values(), loop.weights
        weight.requires_grad_(True)
        hessian = 2 / COUNT * rates.T @ rates
        found[context.stage.name] = loop.curvature(COUNT), torch.linalg.eigvalsh(hessian)[-1].item()

    run(toy(Vector), inputs(Vector, COUNT), Custom(4, first=Probe(measure)))
    assert len(found) == 3
    for measured, exact in found.values():
        assert 0.8 * exact < measured <= 1.001 * exact


def test_curvature_leaves_weights_and_gradients_as_they_were():
    def check(context):
        loop = LayerLoop(Weights(batch_size=BATCH), context)
        before = [w.clone() for w in loop.weights]
        for weight in loop.weights:
            weight.requires_grad_(True)
        loop.curvature(COUNT)
        assert all(torch.equal(a, b) and a.grad is None for a, b in zip(loop.weights, before, strict=True))

    run(toy(Residual), inputs(Residual, COUNT), Custom(4, first=Probe(check)))


def test_parameters_need_no_gradient_afterwards():
    model = calibrate(
        toy(PlainConv),
        [inputs(PlainConv, 16)],
        ACP(4, held_out=0, weights=Weights(2, batch_size=8)),
        progress=False,
    )
    assert all(not p.requires_grad and p.grad is None for p in model.parameters())


class TwoSites(nn.Module):
    """Its second site has no weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.b(torch.relu(torch.relu(self.a(x)) - 0.5))


def test_a_stage_without_weights_is_passed_over():
    torch.manual_seed(0)
    model = calibrate(
        TwoSites(), [torch.randn(16, 4)], ACP(4, held_out=0, weights=Weights(3, batch_size=8)), progress=False
    )
    assert [r["steps"]["weights"].get("synapses") for r in model.records] == [None, 0.0, None]
    assert all(math.isfinite(r["error"]) for r in model.records)


def test_fewer_images_than_a_batch():
    message = r"has 5 images, fewer than its batch of 8: .*weights\.batch_size to 5 or less"
    with pytest.raises(CalibrationError, match=message):
        calibrate(
            toy(Vector),
            [inputs(Vector, 5)],
            ACP(4, held_out=0, weights=Weights(2, batch_size=8)),
            progress=False,
        )


def test_images_limits_the_mini_batches_to_the_first_images():
    images = inputs(Vector, COUNT)
    other = images.clone()
    other[10:] = other[10:].flip(0)
    settings = Weights(5, batch_size=5, images=10, learning_rate=1e-3)
    # Max over channels does not see the order of the images, and the first ten are the same.
    pipeline = Custom(4, threshold=Max(), first=settings)
    one, two = (run(toy(Vector), x, pipeline).network.operators["layers_0"].weight for x in (images, other))
    torch.testing.assert_close(one, two, atol=1e-7, rtol=0)
    more = run(toy(Vector), images, Custom(4, threshold=Max(), first=Weights(5, 1e-3, batch_size=5)))
    assert (more.network.operators["layers_0"].weight - one).abs().max() > 1e-6


def test_the_loss_includes_a_calibrated_potential():
    """Weights after the potential see v_init as it is: they start where the potential has left the error."""
    seen = []

    def error(context):
        if context.stage.kind == "neuron":
            seen.append(LayerLoop(Weights(batch_size=BATCH), context).error())

    run(
        toy(Vector),
        inputs(Vector, COUNT),
        Custom(4, first=Probe(error), second=Potential(shrink=False), third=Probe(error)),
    )
    assert all(before != after for before, after in zip(seen[::2], seen[1::2], strict=True))


def test_a_later_step_simulates_with_the_new_weights():
    """Currents that an earlier step held are of the old weights."""
    ann, images = toy(Vector), inputs(Vector, COUNT)
    settings = Weights(20, learning_rate=1e-2, batch_size=BATCH)
    loop = make_loop(
        ann, images, Custom(4, first=Potential(shrink=False), second=settings, third=Potential(shrink=False))
    )
    records = loop.run()
    exact, rates = activations(loop.ann, images), literal_simulation(loop.snn, images)
    for record in records:
        x, rate = exact[record["name"]], rates[record["name"]]
        assert record["error"] == pytest.approx(
            ((x - rate).square().sum() / x.square().sum()).item(), rel=1e-3
        )
