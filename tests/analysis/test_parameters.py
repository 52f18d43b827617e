"""Bytes of what a T has of its own, against those counted by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import ACP, LCP, MMSE, Baseline, SpikingModel, Weights, calibrate, convert
from snn_lightning.analysis.parameters import parameter_bytes
from snn_lightning.calibration import Pipeline, Potential
from snn_lightning.errors import SettingsError
from snn_lightning.spiking.unit_spikes import rescale_to_unit_spikes
from tests.toys import AS_GIVEN, PlainConv, inputs, toy

CONV1, CONV2, HEAD = 8 * 3 * 9, 12 * 8 * 9, 5 * 12
"""Numbers of weights in PlainConv, which has 8 channels of 8x8 neurons and 12 of 4x4."""


def calibrated(pipeline: Pipeline) -> tuple[nn.Module, SpikingModel, Tensor]:
    ann, x = toy(PlainConv), inputs(PlainConv, 32)
    return ann, calibrate(ann, [x], pipeline, progress=False), x


def counted(pipeline: Pipeline) -> dict[str, int]:
    ann, snn, x = calibrated(pipeline)
    return parameter_bytes(snn, convert(ann, x, timesteps=4, rounding=pipeline.rounding))


@pytest.mark.parametrize("rounding", ["potential", "bias", "floor"])
def test_bytes_counted_by_hand(rounding: Any) -> None:
    """Float32: 4 bytes a number."""
    neurons = 8 * 8 * 8 + 12 * 4 * 4
    thresholds = 4 * (8 + 12)
    assert counted(Baseline(4, rounding=rounding)) == {
        "thresholds": thresholds,
        "biases": 0,
        "potentials": 0,
        "weights": 0,
    }
    assert counted(LCP(4, rounding=rounding)) == {
        "thresholds": thresholds,
        "biases": 4 * (8 + 12 + 5),
        "potentials": 0,
        "weights": 0,
    }
    potential = ACP(4, weights=None, rounding=rounding, **AS_GIVEN)
    assert counted(potential) == {
        "thresholds": thresholds,
        "biases": 4 * 5,
        "potentials": 4 * neurons,
        "weights": 0,
    }
    channels = ACP(4, weights=None, potential=Potential(granularity="channel"), rounding=rounding, **AS_GIVEN)
    assert counted(channels)["potentials"] == 4 * (8 + 12)


@pytest.mark.parametrize(
    ("rounding", "weights", "stored"),
    [
        ("floor", Weights(iterations=30, batch_size=8, learning_rate=1e-3), [CONV1, CONV2]),
        ("potential", Weights(iterations=200, batch_size=8, learning_rate=1e-5), [CONV2]),
    ],
)
def test_weights_that_were_put_back_are_not_stored(
    rounding: Any, weights: Weights, stored: list[int]
) -> None:
    pipeline = ACP(4, rounding=rounding, weights=weights, potential=None, calibrate_readout=False, **AS_GIVEN)
    ann, snn, x = calibrated(pipeline)
    kept = [record["steps"]["weights"]["kept"] for record in snn.records[:2]]
    assert sum(kept) == len(stored)
    assert parameter_bytes(snn, convert(ann, x, timesteps=4)) == {
        "thresholds": 4 * (8 + 12),
        "biases": 0,
        "potentials": 0,
        "weights": 4 * sum(stored),
    }


def test_layer_wise_thresholds_are_a_number_each() -> None:
    assert counted(Baseline(4, threshold=MMSE("layer")))["thresholds"] == 2 * 4


def test_an_uncalibrated_snn_has_thresholds_alone() -> None:
    ann, x = toy(PlainConv), inputs(PlainConv, 8)
    snn = convert(ann, x, timesteps=4)
    assert parameter_bytes(snn, snn) == {"thresholds": 80, "biases": 0, "potentials": 0, "weights": 0}


def test_unit_spikes_have_their_thresholds_in_the_weights() -> None:
    ann, snn, x = calibrated(Baseline(4))
    found = parameter_bytes(rescale_to_unit_spikes(snn), convert(ann, x, timesteps=4))
    assert (found["thresholds"], found["potentials"]) == (0, 0)
    assert found["weights"] == 4 * (CONV1 + CONV2 + HEAD)


def test_double_precision_takes_twice_the_bytes() -> None:
    ann, snn, x = calibrated(LCP(4))
    before = convert(ann, x, timesteps=4)
    assert (
        parameter_bytes(snn.double(), before.double())["biases"]
        == 2 * parameter_bytes(calibrated(LCP(4))[1], convert(ann, x, timesteps=4))["biases"]
    )


def test_two_networks_are_refused() -> None:
    _, snn, _ = calibrated(Baseline(4))
    other = convert(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2), timesteps=4)
    with pytest.raises(SettingsError, match="uncalibrated must be an SNN of the ANN"):
        parameter_bytes(snn, other)
