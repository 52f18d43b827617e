"""Calibration helps a trained network at few time steps, on images that it has not seen."""

import pytest
import torch

from snn_lightning import ACP, LCP, Baseline, Weights, calibrate

SETTINGS = {
    "baseline": Baseline(4),
    "lcp": LCP(4),
    "acp": ACP(4, weights=Weights(60, step_size=0.1, batch_size=32)),
}


@pytest.fixture(scope="module")
def results(digits):
    """Return the relative readout errors and accuracies on the test images, and the ANN's accuracy."""
    ann, train, test, labels = digits
    errors, accuracies = {}, {}
    with torch.no_grad():
        expected = ann(test)
    for name, pipeline in SETTINGS.items():
        output = calibrate(ann, [train[:256]], pipeline, progress=False)(test)
        errors[name] = ((output - expected).square().sum() / expected.square().sum()).item()
        accuracies[name] = (output.argmax(1) == labels).double().mean().item()
    return errors, accuracies, (expected.argmax(1) == labels).double().mean().item()


def test_the_network_is_trained(results):
    assert results[2] > 0.9


def test_bias_calibration_lowers_the_error(results):
    errors, _, _ = results
    assert errors["lcp"] < errors["baseline"]


def test_weights_and_potentials_lower_the_error(results):
    errors, _, _ = results
    assert errors["acp"] < errors["baseline"]


def test_calibrated_networks_keep_the_accuracy(results):
    _, accuracies, ann = results
    assert accuracies["lcp"] > ann - 0.05
    assert accuracies["acp"] > ann - 0.05


def test_the_error_falls_with_the_time_steps(digits):
    ann, train, test, _ = digits
    expected = ann(test[:64]).detach()
    errors = [
        (calibrate(ann, [train[:64]], LCP(timesteps), progress=False)(test[:64]) - expected).norm().item()
        for timesteps in (2, 8, 32)
    ]
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.5 * errors[2]
