"""What each step computes, against numbers worked out by hand and against a literal simulation."""

import pytest
import torch
from torch import nn

from snn_lightning import ACP, LCP, Best, Bias, Distillation, Max, Potential, Weights, calibrate
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.context import RelativeError
from snn_lightning.errors import SettingsError
from tests.calibration.support import (
    Custom,
    Probe,
    activations,
    in_two_threads,
    largest_difference,
    literal_simulation,
    make_loop,
    parameters,
    same_bits,
)
from tests.toys import PlainConv, Residual, Vector, inputs, toy


def test_the_error_of_a_channel_is_the_sum_over_images_of_the_spatial_mean():
    def channels(error):
        x = torch.rand(error.shape).round(decimals=2)
        return RelativeError(torch.device("cpu")).add(x + error, x)

    error = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]], [[[5.0, 7.0]], [[-2.0, 2.0]]]])
    # Channel 0: (1 + 3) / 2 + (5 + 7) / 2 = 8; channel 1: (0 + 4) / 2 + (-2 + 2) / 2 = 2.
    assert channels(error).tolist() == pytest.approx([8.0, 2.0], rel=1e-5)
    assert channels(torch.tensor([[1.0, 2.0], [3.0, -5.0]])).tolist() == pytest.approx([4.0, -3.0], rel=1e-5)
    assert channels(torch.zeros(0, 2, 3, 3)).tolist() == [0.0, 0.0]
    assert channels(torch.tensor([1.0, 2.0])).item() == pytest.approx(3.0, rel=1e-5)


def test_relative_error_adds_up_over_chunks():
    error = RelativeError(torch.device("cpu"))
    error.add(torch.tensor([3.0]), torch.tensor([1.0]))
    error.add(torch.tensor([4.0, 0.0]), torch.tensor([4.0, 1.0]))
    assert error.value(Communicator()) == (4 + 1) / (9 + 16)


@pytest.mark.parametrize(("rate", "value"), [(0.0, 0.0), (2.0, 1.0)])
def test_relative_error_of_nothing(rate, value):
    error = RelativeError(torch.device("cpu"))
    error.add(torch.zeros(2), torch.full((2,), rate))
    assert error.value(Communicator()) == value


def unit_network(weight: float = 1.0) -> nn.Module:
    """One neuron behind the identity (times `weight`), and a readout of it."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.fill_(weight)
        network[0].bias.zero_()
        network[3].weight.fill_(1.0)
        network[3].bias.zero_()
    return network


IMAGES = torch.tensor([[[[1.0, 0.3]]], [[[0.7, 0.1]]]])
"""Two images of two pixels. At T=2, threshold 1 and rounding, their rates are 1, 0.5, 0.5 and 0."""


def test_bias_of_one_neuron_by_hand():
    model = calibrate(unit_network(), [IMAGES], LCP(2, threshold=Max()), progress=False)
    neuron = model.neurons["_1"] if "_1" in model.neurons else next(iter(model.neurons.values()))
    assert neuron.v_th.tolist() == [1.0]
    assert neuron.v_init.tolist() == [0.5]
    # Mean of (0, -0.2) is -0.1, of (0.2, 0.1) is 0.15; their mean is 0.025.
    assert neuron.bias.tolist() == pytest.approx([0.025])
    # With the bias 2 x 0.125 + 0.5 = 0.75 still makes no spike and 2 x 0.325 + 0.5 one: the rates stay, and
    # the readout lacks -0.2 of the first image and 0.3 of the second.
    readout = model.units[model.network.stages[-1].name]
    assert readout.bias.tolist() == pytest.approx([0.05])
    assert model(IMAGES).flatten().tolist() == pytest.approx([1.55, 0.55])


def test_potential_of_each_neuron_by_hand():
    pipeline = Custom(2, threshold=Max(), first=Potential(shrink=False))
    neuron = next(iter(calibrate(unit_network(), [IMAGES], pipeline, progress=False).neurons.values()))
    # Pixel 0 lacks (0, 0.2), pixel 1 (-0.2, 0.1): T times their means are 0.2 and -0.1.
    assert neuron.v_init.flatten().tolist() == pytest.approx([0.7, 0.4])
    assert neuron.v_init.shape == (1, 1, 2)
    assert neuron.bias.tolist() == [0.0]


def test_potential_of_each_channel_by_hand():
    pipeline = Custom(2, threshold=Max(), first=Potential(granularity="channel"))
    neuron = next(iter(calibrate(unit_network(), [IMAGES], pipeline, progress=False).neurons.values()))
    assert neuron.v_init.tolist() == pytest.approx([0.5 + 2 * 0.025])


def test_images_limits_a_step_to_the_first_images():
    pipeline = LCP(2, threshold=Max(), bias=Bias(images=1))
    neuron = next(iter(calibrate(unit_network(), [IMAGES], pipeline, progress=False).neurons.values()))
    assert neuron.bias.tolist() == pytest.approx([-0.1])


@pytest.mark.parametrize("rounding", ["potential", "bias", "floor"])
def test_bias_after_lcp_is_the_mean_error_of_a_literal_simulation(rounding):
    ann, images = toy(Residual), inputs(Residual, 12)
    before = {}

    def remember(context):
        unit = context.unit
        before[context.stage.name] = unit.bias.clone()

    loop = make_loop(ann, images, Custom(4, rounding=rounding, first=Probe(remember), second=Bias()))
    loop.run()
    final = {stage.name: loop.snn.units[stage.name].bias.clone() for stage in loop.snn.network.stages}
    exact = activations(loop.ann, images)
    for stage in loop.snn.network.stages:
        unit = loop.snn.units[stage.name]
        unit.bias = before[stage.name]
        error = exact[stage.name] - literal_simulation(loop.snn, images)[stage.name]
        mean = error.mean((0, 2, 3)) if error.dim() == 4 else error.mean(0)
        torch.testing.assert_close(final[stage.name], before[stage.name] + mean, atol=1e-5, rtol=1e-4)
        unit.bias = final[stage.name]


@pytest.mark.parametrize("granularity", ["neuron", "channel"])
def test_potential_is_t_times_the_mean_error_of_a_literal_simulation(granularity):
    ann, images, timesteps = toy(PlainConv), inputs(PlainConv, 12), 5
    loop = make_loop(ann, images, Custom(timesteps, first=Potential(granularity=granularity, shrink=False)))
    loop.run()
    exact = activations(loop.ann, images)
    for stage in loop.snn.network.stages[:-1]:
        neuron = loop.snn.neurons[stage.name]
        final, neuron.v_init = neuron.v_init, neuron.v_th / 2
        error = exact[stage.name] - literal_simulation(loop.snn, images)[stage.name]
        mean = error.mean(0) if granularity == "neuron" else error.mean((0, 2, 3))
        start = neuron.v_init.view(-1, 1, 1) if granularity == "neuron" else neuron.v_init
        torch.testing.assert_close(final, start + timesteps * mean, atol=1e-5, rtol=1e-4)
        neuron.v_init = final


def test_potential_calibrates_the_readout_by_its_bias():
    ann, images = toy(Vector), inputs(Vector, 20)
    loop = make_loop(ann, images, Custom(4, first=Potential(shrink=False)))
    loop.run()
    error = (
        activations(loop.ann, images)["readout_layers_6"]
        - literal_simulation(loop.snn, images)["readout_layers_6"]
    )
    torch.testing.assert_close(error.mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_layer_wise_thresholds_take_part():
    ann, images = toy(PlainConv), inputs(PlainConv, 12)
    model = calibrate(
        ann,
        [images],
        ACP(4, held_out=0, threshold=Max("layer"), weights=Weights(5, batch_size=4)),
        progress=False,
    )
    for neuron in model.neurons.values():
        assert neuron.v_th.shape == ()
        assert neuron.v_init.dim() == 3
    lcp = calibrate(ann, [images], LCP(4, threshold=Max("layer")), progress=False)
    for neuron, channels in zip(lcp.neurons.values(), (8, 12), strict=True):
        assert (neuron.v_th.shape, neuron.v_init.shape, neuron.bias.shape) == ((), (), (channels,))


class Pooled(nn.Module):
    """Takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


def two_sizes() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 3, size, size, generator=generator) for size in (8, 6)]


@pytest.mark.parametrize("pipeline", [LCP(4), Custom(4, first=Potential(granularity="channel"))])
def test_images_of_two_sizes(pipeline):
    torch.manual_seed(0)
    model = calibrate(Pooled(), two_sizes(), pipeline, progress=False)
    assert model.records[0]["error"] < 0.2
    assert next(iter(model.neurons.values())).v_init.shape == (4,)


def test_potentials_are_those_of_channels_where_sizes_vary():
    torch.manual_seed(0)
    ann = Pooled()
    neuron, channel, one_size = (
        calibrate(
            ann, sizes, Custom(4, first=Potential(granularity=granularity, shrink=False)), progress=False
        )
        for granularity, sizes in (
            ("neuron", two_sizes()),
            ("channel", two_sizes()),
            ("neuron", two_sizes()[:1]),
        )
    )
    assert same_bits(neuron, channel)
    # The readout behind the mean has one size all the same.
    models = (neuron, channel, one_size)
    words = [[r["steps"]["potential"].get("channelwise") for r in model.records] for model in models]
    assert words == [[1.0, None], [None, None], [None, None]]
    assert one_size.neurons["relu"].v_init.shape == (4, 8, 8)


@pytest.mark.parametrize("order", ["one after the other", "mixed"])
@pytest.mark.parametrize(
    "pipeline",
    [
        Custom(4, first=Potential(shrink=False)),
        ACP(4, held_out=0, weights=Weights(5, batch_size=4, images=9)),
        Best(4, held_out=0, distillation=Distillation(5, batch_size=4, images=9)),
    ],
    ids=["potential", "acp", "best"],
)
def test_two_processes_equal_one_on_images_of_two_sizes(order, pipeline):
    torch.manual_seed(0)
    ann, batches = Pooled(), two_sizes()
    if order == "mixed":
        batches = [x[i : i + 1] for i in range(5) for x in batches]
    one, two = calibrate(ann, batches, pipeline, progress=False), in_two_threads(ann, batches, pipeline)
    assert same_bits(*two)
    assert largest_difference(parameters(one), parameters(two[0])) < 1e-4


def test_repeats_of_the_bias_are_so_many_bias_steps():
    ann, images = toy(Residual), inputs(Residual, 12)
    repeated = calibrate(ann, [images], LCP(4, bias=Bias(images=7, repeats=3)), progress=False)
    pipeline = Custom(4, first=Bias(7), second=Bias(7), third=Bias(7), calibrate_readout=False)
    single = calibrate(ann, [images], pipeline, progress=False)
    for name, neuron in repeated.neurons.items():
        assert torch.equal(neuron.bias, single.neurons[name].bias)
    once = calibrate(ann, [images], LCP(4, bias=Bias(images=7)), progress=False)
    assert not torch.equal(repeated.neurons["relu"].bias, once.neurons["relu"].bias)
    # The report has the error before the first of them, which the first stage has without any.
    steps = [model.records[0]["steps"]["bias"] for model in (repeated, once)]
    assert steps[0]["before"] == steps[1]["before"]


def test_repeats_of_the_bias_by_hand():
    # At T=2 and threshold 1 the rates of 1 and 0.7 are 1 and 0.5, those of 0.3 and 0.1 are 0.5 and 0: the
    # bias becomes 0.025 and changes no spike, and 0.025 again makes 0.1 + 0.05 no spike either.
    biases = []
    for repeats in (1, 2, 3):
        pipeline = LCP(2, threshold=Max(), bias=Bias(repeats=repeats))
        model = calibrate(unit_network(), [IMAGES], pipeline, progress=False)
        biases.append(next(iter(model.neurons.values())).bias.item())
        assert model.records[0]["steps"]["bias"]["largest"] == pytest.approx(abs(biases[-1]))
    # With 0.05, 2 * 0.75 + 0.5 is 2 spikes: the third time the mean error is 0.025 - 0.5 / 4.
    assert biases == pytest.approx([0.025, 0.05, 0.05 + 0.025 - 0.125])


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, None])
def test_bad_repeats_of_the_bias(repeats):
    with pytest.raises(SettingsError, match=r"bias\.repeats must be a whole number of at least 1, got"):
        Bias(repeats=repeats)
