"""The pipelines of the papers' tables hold to their defining equations."""

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import (
    LCP,
    MMSE,
    QCFS,
    RMP,
    RNL,
    TSC,
    Balance,
    Burst,
    Cap,
    MaxAct,
    Opt,
    RobustNorm,
    SpikeNorm,
    Switch,
    calibrate,
    convert,
    rescale_to_unit_spikes,
)
from snn_lightning.errors import SettingsError
from snn_lightning.graph import normalise
from snn_lightning.models import QuantizedClip, replace_activations
from tests.calibration.support import Custom
from tests.toys import TOYS, PlainConv, Residual, Vector, inputs, toy


def chain(first: list[list[float]], second: list[list[float]], bias: list[float]) -> nn.Module:
    """Two layers of neurons and a readout that passes them on."""
    ann = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for layer, weight in ((ann[0], first), (ann[2], second), (ann[4], [[1.0, 0.0], [0.0, 1.0]])):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.zero_()
        ann[2].bias.copy_(torch.tensor(bias))
    return ann.eval()


IDENTITY = [[1.0, 0.0], [0.0, 1.0]]
IMAGES = torch.tensor([[1.0, 0.5], [0.25, 0.75]])


def neurons(ann: nn.Module, images: Tensor, pipeline) -> list:
    return list(calibrate(ann, [images], pipeline, progress=False).neurons.values())


def test_max_act_takes_the_largest_activation_of_the_layer_and_floors():
    first, second = neurons(chain(IDENTITY, [[1.0, 2.0], [0.0, 0.5]], [0.0, 0.0]), IMAGES, MaxAct(2))
    # The second layer's activations are (2, 0.25) and (1.75, 0.375).
    assert (first.v_th.item(), second.v_th.item()) == (1.0, 2.0)
    assert first.v_th.dim() == second.v_th.dim() == 0
    assert first.v_init.item() == first.bias.item() == 0
    # floor(2 * 0.75) = 1, where rounding would give 2.
    assert first.expected_rate(IMAGES, 2).tolist() == [[1.0, 0.5], [0.0, 0.5]]


def test_robust_norm_leaves_one_activation_of_a_thousand_above():
    ann = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1)).eval()
    nn.init.ones_(ann[0].weight)
    images = torch.arange(1, 1501.0)[:, None]
    images[-1] = 6000.0
    (neuron,) = neurons(ann, images, RobustNorm(4))
    # 1.5 of the 1500 may lie above it; the histogram knows it to a bin of 6000 / 4096.
    assert 1497 <= neuron.v_th.item() < 1501
    assert neuron.v_init.item() == neuron.bias.item() == 0


def test_spike_norm_takes_the_largest_simulated_current():
    # At T=2 and threshold 1 the first layer fires (1, 0 then 1) for the first image and (0, 0 then 1) for the
    # second. The second layer's first neuron hence gets 1 and then 1 + 2 = 3, its activation being 2.
    ann = chain(IDENTITY, [[1.0, 2.0], [0.0, 0.5]], [0.0, 0.0])
    first, second = neurons(ann, IMAGES, SpikeNorm(2))
    assert (first.v_th.item(), second.v_th.item()) == (1.0, 3.0)
    assert second.v_init.item() == second.bias.item() == 0


def test_the_current_includes_the_synapses_bias():
    ann = chain(IDENTITY, [[1.0, 2.0], [0.0, 0.5]], [0.25, 0.0])
    assert neurons(ann, IMAGES, SpikeNorm(2))[1].v_th.item() == 3.25


def test_rmp_scales_the_largest_current():
    ann = chain(IDENTITY, IDENTITY, [0.0, 0.0])
    first, second = neurons(ann, IMAGES, RMP(2, balance=Balance(scale=0.5)))
    # Spikes have the value 0.5 now, and so has the largest current behind an identity.
    assert (first.v_th.item(), second.v_th.item()) == (0.5, 0.25)
    assert RMP(2).balance == Balance(scale=0.8)


def test_tsc_takes_the_largest_activation_of_the_layer_and_is_on_for_so_many_steps():
    ann = chain(IDENTITY, [[1.0, 2.0], [0.0, 0.5]], [0.0, 0.0])
    model = calibrate(ann, [IMAGES], TSC(4), progress=False)
    assert model.neuron == Switch()
    assert [neuron.v_th.item() for neuron in model.neurons.values()] == [1.0, 2.0]
    assert all(neuron.v_init.item() == neuron.bias.item() == 0 for neuron in model.neurons.values())
    first, second = model.spikes(IMAGES).values()
    # Activations (1, 0.5) and (0.25, 0.75) of 1, then (2, 0.25) and (1.75, 0.375) of 2, in quarters.
    assert first.transpose(0, 2).tolist() == [[[1] * 4, [1, 0, 0, 0]], [[1, 1, 0, 0], [1, 1, 1, 0]]]
    assert second.transpose(0, 2).tolist() == [[[2] * 4, [2, 2, 2, 0]], [[0] * 4, [0] * 4]]
    assert model(IMAGES).tolist() == [[2.0, 0.0], [1.5, 0.0]]


@pytest.mark.parametrize("cls", TOYS)
@pytest.mark.parametrize("timesteps", [1, 3])
def test_spike_norm_is_the_largest_current_of_a_simulation_of_the_whole_network(
    cls: type[nn.Module], timesteps: int
):
    images = inputs(cls, 6)
    model = calibrate(toy(cls), [images], SpikeNorm(timesteps), progress=False)
    largest = {}
    for name, neuron in model.neurons.items():
        neuron.register_forward_pre_hook(
            lambda _, args, name=name: largest.update({name: args[0].max().item()})
        )
    model.spikes(images)
    for name, neuron in model.neurons.items():
        cap = model.network.nodes[name].settings["cap"] or float("inf")
        assert neuron.v_th.item() == pytest.approx(min(largest[name], cap), rel=1e-5)


def test_with_unit_spikes_a_threshold_is_the_largest_current_behind_spikes_of_value_one():
    images = inputs(Vector, 16)
    model = calibrate(toy(Vector), [images], SpikeNorm(4), progress=False)
    first, second = model.neurons
    v_first, v_second = (neuron.v_th for neuron in model.neurons.values())
    spikes = model.spikes(images)[first] / v_first
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    linear = next(m for m in model.network.operators.values() if getattr(m, "in_features", 0) == 16)
    # The paper's currents: unit spikes, and a bias in units of the threshold before it.
    current = spikes @ linear.weight.T + linear.bias / v_first
    assert current.max().item() == pytest.approx((v_second / v_first).item(), rel=1e-5)
    unit = rescale_to_unit_spikes(model)
    assert torch.equal(unit.spikes(images)[second] != 0, model.spikes(images)[second] != 0)


def test_balancing_follows_the_thresholds_granularity_and_the_rounding():
    images = inputs(PlainConv, 12)
    for rounding in ("potential", "bias"):
        pipeline = Custom(4, threshold=MMSE(), rounding=rounding, first=Balance())
        for neuron in neurons(toy(PlainConv), images, pipeline):
            assert neuron.v_th.dim() == 1
            half = neuron.v_init if rounding == "potential" else 4 * neuron.bias
            torch.testing.assert_close(half, neuron.v_th / 2)


def test_a_neuron_that_fires_k_spikes_a_step_needs_a_kth_of_the_threshold():
    ann = chain(IDENTITY, [[1.0, 2.0], [0.0, 0.5]], [0.0, 0.0])
    first, second = neurons(ann, IMAGES, SpikeNorm(2, neuron=Burst(2)))
    # The first layer fires halves now. For the second image (0, 0.5) and then (0.5, 1), of which comes 2.5.
    assert (first.v_th.item(), second.v_th.item()) == (0.5, 1.25)


def test_a_silent_layer_gets_a_positive_threshold_and_stays_silent():
    ann = chain([[-1.0, 0.0], [0.0, -1.0]], IDENTITY, [0.0, 0.0])
    model = calibrate(ann, [IMAGES], SpikeNorm(2), progress=False)
    assert [neuron.v_th.item() for neuron in model.neurons.values()] == [1.0, 1.0]
    assert all(not train.any() for train in model.spikes(IMAGES).values())


def test_spike_norm_leaves_the_readout_alone_and_says_what_it_found():
    model = calibrate(toy(Residual), [inputs(Residual)], SpikeNorm(4), progress=False)
    assert model.units[model.network.stages[-1].name].bias.item() == 0
    record = model.records[0]["steps"]["balance"]
    assert record["largest"] == pytest.approx(next(iter(model.neurons.values())).v_th.item())


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), "1", True, None])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(SettingsError, match=r"balance\.scale must be a positive number, got "):
        Balance(scale=scale)


def capped(cls: type[nn.Module], activation) -> nn.Module:
    ann = replace_activations(toy(cls), activation)
    for number, module in enumerate(m for m in ann.modules() if isinstance(m, QuantizedClip)):
        nn.init.constant_(module.cap, 0.5 + 0.25 * number)
    return ann.eval()


@pytest.mark.parametrize(
    ("pipeline", "v_init", "bias"), [(RNL, 0.0, 0.0), (Opt, 0.0, 0.125), (QCFS, 0.5, 0.0)]
)
def test_thresholds_are_the_trained_bounds(pipeline, v_init: float, bias: float):
    model = calibrate(capped(PlainConv, "qcfs"), [inputs(PlainConv)], pipeline(4), progress=False)
    assert [neuron.v_th.item() for neuron in model.neurons.values()] == [0.5, 0.75]
    for neuron in model.neurons.values():
        assert neuron.v_init.item() == v_init * neuron.v_th.item()
        assert neuron.bias.item() == bias * neuron.v_th.item()


@pytest.mark.parametrize("levels", [1, 4, 7])
def test_at_t_equal_l_the_expected_rate_is_the_quantised_activation(levels: int):
    ann = nn.Sequential(nn.Linear(3, 3, bias=False), QuantizedClip(levels, cap=1.5), nn.Linear(3, 3)).eval()
    with torch.no_grad():
        ann[0].weight.copy_(torch.eye(3))
    x = torch.linspace(-1, 3, 3000).view(-1, 3)
    model = calibrate(ann, [x], QCFS(levels), progress=False)
    (neuron,) = model.neurons.values()
    quantised = ann[1](x)
    assert len(quantised.unique()) == levels + 1
    assert torch.equal(neuron.expected_rate(x, levels), quantised)
    # The first stage's current is the image at every step, so that the simulated rate is the expected one.
    (rate,) = (train.mean(0) for train in model.spikes(x).values())
    on_a_step = ((x * levels / 1.5 + 0.5) - (x * levels / 1.5 + 0.5).round()).abs() < 1e-4
    torch.testing.assert_close(rate[~on_a_step], quantised[~on_a_step])


def test_conversion_leaves_the_quantiser_behind():
    ann, x = capped(Vector, "qcfs"), inputs(Vector, 32)
    network = normalise(ann, x)
    with torch.no_grad():
        tested = ann(x)
        for layer in ann.layers:
            x = x.clamp(0, layer.cap.item()) if isinstance(layer, QuantizedClip) else layer(x)
        converted = network(inputs(Vector, 32))
    torch.testing.assert_close(converted, x)
    assert (converted - tested).norm() > 0.01 * tested.norm()


def test_conversion_thresholds_can_be_the_caps_too():
    model = convert(capped(PlainConv, "qcfs"), inputs(PlainConv), 4, threshold=Cap())
    assert [neuron.v_th.item() for neuron in model.neurons.values()] == [0.5, 0.75]
    many = convert(capped(PlainConv, "qcfs"), inputs(PlainConv), 4, threshold=Cap("channel"))
    assert [neuron.v_th.tolist() for neuron in many.neurons.values()] == [[0.5] * 8, [0.75] * 12]


@pytest.mark.parametrize("pipeline", [RNL, Opt, QCFS])
def test_a_site_without_a_cap_is_named_with_the_remedy(pipeline):
    with pytest.raises(
        SettingsError, match=r"site 'features\.2' has no cap .* capped activations .* another threshold"
    ):
        calibrate(toy(PlainConv), [inputs(PlainConv)], pipeline(4), progress=False)
    with pytest.raises(SettingsError, match="has no cap"):
        convert(toy(PlainConv), inputs(PlainConv), 4, threshold=Cap())


@pytest.mark.parametrize("activation", ["clipped", "rate_norm", "qcfs"])
@pytest.mark.parametrize("pipeline", [LCP, SpikeNorm])
def test_capped_networks_go_through_the_other_pipelines_too(activation: str, pipeline):
    ann, images = capped(PlainConv, activation), inputs(PlainConv, 8)
    model = calibrate(ann, [images], pipeline(64), progress=False)
    with torch.no_grad():
        expected = normalise(ann, images)(images)
    assert (model(images) - expected).norm() < 0.15 * expected.norm()
    for name, neuron in model.neurons.items():
        assert (neuron.v_th <= model.network.nodes[name].settings["cap"]).all()
