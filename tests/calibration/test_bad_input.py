"""What can't be calibrated is refused with the remedy; what is merely odd goes through without NaN."""

import pytest
import torch
from torch import nn

from snn_lightning import ACP, LCP, MMSE, Baseline, Bias, Max, Percentile, Weights, calibrate
from snn_lightning.calibration.images import shard
from snn_lightning.errors import CalibrationError, ConversionError, SettingsError
from tests.toys import AS_GIVEN, PlainConv, Residual, Signal, Vector, Volume, inputs, toy

IMAGES = inputs(PlainConv, 4)


@pytest.mark.parametrize("loader", [[], [IMAGES[:0]], [(IMAGES[:0], IMAGES[:0])], iter(())])
def test_no_images(loader):
    with pytest.raises(
        CalibrationError, match="calibration set is empty: give a loader with at least one image"
    ):
        calibrate(toy(PlainConv), loader, LCP(4), progress=False)


def test_empty_batches_are_passed_over():
    one = calibrate(toy(PlainConv), [IMAGES[:0], IMAGES, IMAGES[:0]], LCP(4), progress=False)
    assert (
        one.records[0]["error"]
        == calibrate(toy(PlainConv), [IMAGES], LCP(4), progress=False).records[0]["error"]
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite(value):
    bad = IMAGES.clone()
    bad[2, 0, 1, 1] = value
    with pytest.raises(CalibrationError, match="images have NaN or infinite values; clean the data"):
        calibrate(toy(PlainConv), [IMAGES, bad], LCP(4), progress=False)


@pytest.mark.parametrize(
    ("batch", "found"),
    [({"image": IMAGES}, "dict with dict"), (([IMAGES], 0), "tuple with list"), ("x", "str")],
)
def test_batches_of_another_form(batch, found):
    with pytest.raises(
        CalibrationError, match=f"must be a tensor or a tuple .* got {found}.* Wrap the loader"
    ):
        calibrate(toy(PlainConv), [batch], LCP(4), progress=False)


def test_a_tensor_is_not_a_loader():
    with pytest.raises(
        CalibrationError, match=r"loader is a tensor: pass a loader of batches, or \[tensor\]"
    ):
        calibrate(toy(PlainConv), IMAGES, LCP(4), progress=False)


@pytest.mark.parametrize("pipeline", ["acp", None, ACP, Weights(), {"timesteps": 4}])
def test_something_else_than_a_pipeline(pipeline):
    with pytest.raises(SettingsError, match="pipeline must be Baseline, LCP, ACP or another Pipeline, got"):
        calibrate(toy(PlainConv), [IMAGES], pipeline, progress=False)


def test_fewer_images_than_the_weights_batch():
    with pytest.raises(CalibrationError, match=r"4 images, fewer than its batch of 8: give more images"):
        calibrate(
            toy(PlainConv), [IMAGES], ACP(4, **AS_GIVEN, weights=Weights(2, batch_size=8)), progress=False
        )


@pytest.mark.parametrize(
    ("pipeline", "step"),
    [
        (LCP(4, bias=Bias(images=5)), "bias"),
        (ACP(4, **AS_GIVEN, weights=Weights(2, batch_size=2, images=5)), "weights"),
    ],
)
def test_fewer_images_than_a_step_wants(pipeline, step):
    message = (
        rf"'{step}' wants 5 images and the calibration set has 4: give more .* {step}\.images to 4 or less"
    )
    with pytest.raises(CalibrationError, match=message):
        calibrate(toy(PlainConv), [IMAGES], pipeline, progress=False)


def test_fewer_images_than_processes():
    with pytest.raises(CalibrationError, match="has 4 images for 5 processes: give each at least one"):
        shard(IMAGES, rank=0, world_size=5, size=8)


@pytest.mark.parametrize(("rank", "world_size", "size"), [(0, 1, 3), (0, 2, 2), (1, 2, 2), (2, 3, 8)])
def test_shares_are_complete_and_without_padding(rank, world_size, size):
    images = torch.arange(7.0).view(7, 1)
    parts, indices = shard(images, rank, world_size, size)
    chunks = list(parts)
    assert torch.cat(indices).tolist() == list(range(rank, 7, world_size))
    assert all(len(chunk) <= size for chunk in chunks)
    assert all(torch.equal(chunk, images[index]) for chunk, index in zip(chunks, indices, strict=True))


def test_images_of_one_size_share_chunks_wherever_they_stand():
    images = [torch.full((1 + i % 2,), float(i)) for i in range(7)]
    parts, indices = shard(images, 0, 1, 3)
    assert [index.tolist() for index in indices] == [[0, 2, 4], [1, 3, 5], [6]]
    assert [part[:, 0].tolist() for part in parts] == [index.tolist() for index in indices]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(value):
    ann = toy(PlainConv)
    ann.features[4].weight.data[0, 0, 0, 0] = value
    with pytest.raises(
        ConversionError, match=r"'features\.4\.weight' has NaN or infinite values: its training has diverged"
    ):
        calibrate(ann, [IMAGES], LCP(4), progress=False)


def test_activations_that_overflow_later_in_the_set():
    ann = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    torch.nn.init.constant_(ann[0].weight, 10.0)
    with pytest.raises(
        CalibrationError, match=r"activation at '_?1' has NaN or infinite values on the calibration set"
    ):
        calibrate(ann, [torch.ones(16, 2), torch.full((1, 2), 3e38)], LCP(4), progress=False)


class Difference(nn.Module):
    """Has a site that is NaN where two values overflow."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        x = self.linear(x)
        return torch.relu(x * 1e20 - x * 1.5e20) * 1e-20


def test_activations_that_become_nan_later_in_the_set():
    ann = Difference()
    torch.nn.init.constant_(ann.linear.weight, 1.0)
    with pytest.raises(
        CalibrationError, match="activation at 'relu' has NaN or infinite values on the calibration set"
    ):
        calibrate(ann, [torch.ones(16, 2), torch.full((1, 2), 1e19)], LCP(4), progress=False)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compile", "DataParallel"])
def test_a_wrapped_network_calibrates_as_the_network_inside(wrap):
    expected = calibrate(toy(PlainConv), [IMAGES], LCP(4), progress=False)
    model = calibrate(wrap(toy(PlainConv)), [IMAGES], LCP(4), progress=False)
    assert list(model.state_dict()) == list(expected.state_dict())
    assert torch.equal(model(IMAGES), expected(IMAGES))


def test_a_network_in_train_mode_calibrates_as_in_eval_mode():
    ann, x = toy(Residual).train(), inputs(Residual, 4)
    ann.norm2.eval()
    flags = {name: module.training for name, module in ann.named_modules()}
    before = {name: value.clone() for name, value in ann.state_dict().items()}
    model = calibrate(ann, [x], LCP(4), progress=False)
    assert torch.equal(model(x), calibrate(toy(Residual), [x], LCP(4), progress=False)(x))
    assert {name: module.training for name, module in ann.named_modules()} == flags
    assert all(torch.equal(value, before[name]) for name, value in ann.state_dict().items())


def test_a_network_on_the_meta_device():
    with pytest.raises(ConversionError, match=r"on the meta device.*Load the ANN's weights"):
        calibrate(toy(PlainConv).to("meta"), [IMAGES], LCP(4), progress=False)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_scripted_network():
    with pytest.raises(ConversionError, match=r"scripted module.*Pass the nn\.Module it was scripted from"):
        calibrate(torch.jit.script(toy(PlainConv)), [IMAGES], LCP(4), progress=False)


@pytest.mark.parametrize("cls", [Vector, Signal, Volume])
@pytest.mark.parametrize(
    "pipeline", [LCP(4), ACP(4, **AS_GIVEN, weights=Weights(20, batch_size=16))], ids=["lcp", "acp"]
)
def test_inputs_of_any_number_of_dimensions(cls, pipeline):
    ann, x = toy(cls), inputs(cls, 64)
    plain = calibrate(ann, [x], Baseline(4), progress=False)
    model = calibrate(ann, [x], pipeline, progress=False)
    # The toys' weights are random: there is hardly anything to gain, but nothing to lose.
    assert (model(x) - ann(x)).norm() < 1.1 * (plain(x) - ann(x)).norm()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_network_without_activations():
    with pytest.raises(
        ConversionError, match=r"has no activation .* Pass the part of the model that has them"
    ):
        calibrate(nn.Sequential(nn.Linear(10, 4)), [inputs(Vector)], LCP(4), progress=False)


THRESHOLDS = [Max(), MMSE(), Percentile(), Max("layer"), MMSE("layer"), Percentile("layer")]
PIPELINES = {
    "baseline": lambda threshold: Baseline(4, threshold=threshold),
    "lcp": lambda threshold: LCP(4, threshold=threshold),
    "acp": lambda threshold: ACP(4, **AS_GIVEN, threshold=threshold, weights=Weights(3, batch_size=4)),
}


def silence(ann: nn.Module, channels: slice) -> nn.Module:
    """Let these channels of the first site never be positive."""
    with torch.no_grad():
        ann.features[1].weight[channels] = 0
        ann.features[1].bias[channels] = -1
    return ann


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=repr)
@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("channels", [slice(2, 4), slice(None)], ids=["two channels", "layer"])
def test_dead_channels_are_silent_with_a_finite_threshold(threshold, pipeline, channels):
    ann = silence(toy(PlainConv), channels)
    model = calibrate(ann, [IMAGES], pipeline(threshold), progress=False)
    for value in model.state_dict().values():
        assert torch.isfinite(value).all()
    for neuron in model.neurons.values():
        assert (neuron.v_th > 0).all()
    name = next(iter(model.neurons))
    assert model.spikes(IMAGES)[name][:, :, channels].count_nonzero() == 0
    assert torch.isfinite(model(IMAGES)).all()
    for record in model.records:
        assert record["error"] == record["error"] >= 0


def test_images_that_are_all_zero():
    model = calibrate(toy(PlainConv), [torch.zeros(4, 3, 8, 8)], LCP(4), progress=False)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_single_image():
    model = calibrate(
        toy(PlainConv), [IMAGES[:1]], ACP(4, **AS_GIVEN, weights=Weights(2, batch_size=1)), progress=False
    )
    assert torch.isfinite(model(IMAGES)).all()
