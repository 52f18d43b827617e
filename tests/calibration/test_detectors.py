"""Detectors whose body, or backbone, spikes; neck and heads read the mean currents at its outputs."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import (
    ACP,
    Baseline,
    Best,
    Distillation,
    LeastSquares,
    SpikingModel,
    Weights,
    calibrate,
    conversion_report,
    convert,
)
from snn_lightning.calibration.recording import relative_error, tensors_of
from snn_lightning.errors import SettingsError
from tests.calibration.support import same_bits
from tests.detectors import DETECTORS, detector, images, received, yolo
from tests.toys import AS_GIVEN

IMAGES = images(8)
BATCHES = [IMAGES[i : i + 2] for i in range(0, 8, 2)]
"""Every second batch is of wide images."""

ACP_STEPS = Weights(20, batch_size=4)
PIPELINES = {
    "sgd": ACP(8, **AS_GIVEN, weights=ACP_STEPS),
    "least squares": ACP(8, **AS_GIVEN, weights=LeastSquares()),
    "best": Best(8, **AS_GIVEN, distillation=Distillation(20, batch_size=4)),
}


def part_of(name: str) -> str:
    return "backbone.features" if name == "ssd" else "backbone.body"


@torch.no_grad()
def errors(model: nn.Module, ann: nn.Module, part: str, batches: list[list[Tensor]] = BATCHES) -> list[float]:
    """Return the relative error of the part's outputs on each batch."""
    one, two = model.get_submodule(part), ann.get_submodule(part)
    inputs = [received(ann.transform, batch) for batch in batches]
    return [relative_error(tensors_of(one(x)), tensors_of(two(x))) for x in inputs]


def forms(detections: list[dict[str, Tensor]]) -> list[dict[str, tuple[object, ...]]]:
    return [{key: (value.dtype, value.shape[1:]) for key, value in image.items()} for image in detections]


@pytest.mark.parametrize("name", DETECTORS)
def test_the_body_spikes_and_the_rest_reads_its_mean(name):
    ann, part = detector(name), part_of(name)
    model = convert(ann, IMAGES, 256, network=part)
    assert errors(model, ann, part, [IMAGES])[0] < 0.03
    with torch.no_grad():
        expected, detections = ann(IMAGES), model(IMAGES)
    assert forms(detections) == forms(expected)
    assert all(len(image["boxes"]) for image in detections)
    snn = model.get_submodule(part)
    assert isinstance(snn, SpikingModel)
    assert [type(m) for m in model.modules() if isinstance(m, SpikingModel)] == [SpikingModel]
    assert {node.op for node in snn.network.nodes.values()} <= {"Conv2d", "Add", "Activation", "MaxPool2d"}


@pytest.mark.parametrize("name", DETECTORS)
def test_the_body_is_calibrated_on_images_of_two_sizes(name):
    ann, part = detector(name), part_of(name)
    model = calibrate(ann, BATCHES, ACP(64, **AS_GIVEN, weights=LeastSquares()), network=part, progress=False)
    assert max(errors(model, ann, part)) < 0.06
    snn = model.get_submodule(part)
    if name != "ssd":  # whose images all become squares
        assert {neuron.v_init.dim() for neuron in snn.neurons.values()} == {1}
        assert all(record["steps"]["potential"]["channelwise"] == 1 for record in snn.records[:1])
    with torch.no_grad():
        assert forms(model(IMAGES)) == forms(ann(IMAGES))


@functools.cache
def uncalibrated(part: str) -> nn.Module:
    return calibrate(detector("retinanet"), BATCHES, Baseline(8), network=part, progress=False)


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("part", ["backbone.body", "backbone"])
def test_every_pipeline_lowers_the_error(pipeline, part):
    ann, before = detector("retinanet"), uncalibrated(part)
    after = calibrate(ann, BATCHES, pipeline, network=part, progress=False)
    pairs = zip(errors(before, ann, part), errors(after, ann, part), strict=True)
    assert all(b < 0.9 * a for a, b in pairs)


def test_the_whole_backbone_spikes_at_every_size():
    ann = detector("retinanet")
    model = convert(ann, IMAGES, 256, network="backbone")
    assert errors(model, ann, "backbone", [IMAGES])[0] < 0.05
    with torch.no_grad():
        outputs = [m.backbone(torch.rand(1, 3, 96, 64)) for m in (model, ann)]
        assert [(k, v.shape) for k, v in outputs[0].items()] == [(k, v.shape) for k, v in outputs[1].items()]
        assert forms(model(IMAGES)) == forms(ann(IMAGES))


def test_the_order_of_the_sizes_changes_only_what_is_random():
    """Least squares and potentials are sums over images."""
    ann, pipeline = detector("retinanet"), ACP(8, **AS_GIVEN, weights=LeastSquares(), calibrate_readout=False)
    one, two = (
        calibrate(ann, batches, pipeline, network="backbone.body", progress=False)
        for batches in (BATCHES, [BATCHES[0], BATCHES[2], BATCHES[1], BATCHES[3]])
    )
    for x, y in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)


def test_little_memory_changes_nothing():
    ann = detector("retinanet")
    one, two = (
        calibrate(
            ann,
            BATCHES,
            Best(
                4,
                **AS_GIVEN,
                weights=ACP_STEPS,
                distillation=Distillation(4, batch_size=4),
                cache_budget_gb=budget,
            ),
            network="backbone.body",
            progress=False,
        )
        for budget in (None, 1e-5)
    )
    assert same_bits(one.backbone.body, two.backbone.body)


def test_neurons_with_potentials_of_their_own_refuse_another_size():
    model = calibrate(detector("ssd").backbone, [torch.rand(4, 3, 32, 32)], ACP(4, weights=None))
    with pytest.raises(SettingsError, match=r"\(16, 16, 16\) get a current of \(16, 16, 24\): .*=channel"):
        model(torch.rand(1, 3, 32, 48))


@torch.no_grad()
def test_a_network_in_the_manner_of_yolo_converts_whole():
    ann, x = yolo(), torch.stack(BATCHES[0])
    assert "10 sites become neurons, nothing left analog" in str(conversion_report(ann, x))
    expected, got = ann(x), convert(ann, x, 256)(x)
    assert isinstance(got, list)
    assert relative_error(got, expected) < 0.03


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
@torch.no_grad()
def test_it_is_calibrated_whole_on_two_sizes(pipeline):
    ann, batches = yolo(), [torch.stack(batch) for batch in BATCHES]
    before, after = (calibrate(ann, batches, p, progress=False) for p in (Baseline(8), pipeline))
    for x in batches:
        one, two = (relative_error(model(x), ann(x)) for model in (before, after))
        assert two < 0.9 * one
