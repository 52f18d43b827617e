"""Strided pointwise convolutions of few channels: with AVX2 only, a wrong kernel corrupts the heap."""

import pytest
import torch
from torch import nn

from snn_lightning import ACP, LCP, LeastSquares, Weights, calibrate
from snn_lightning.calibration.steps.ridge import weight_moment
from snn_lightning.graph.pointwise import overruns
from snn_lightning.graph.precision import compute


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(4, 8, 1, 2), True),
        (nn.Conv2d(12, 6, 1, (1, 2), groups=3), True),
        (nn.Conv2d(8, 8, 1, 2), False),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Conv2d(4, 8, 3, 2), False),
        (nn.Conv1d(4, 8, 1, 2), False),
        (nn.Linear(4, 8), False),
    ],
    ids=str,
)
def test_which_convolutions_overrun(module: nn.Module, expected: bool) -> None:
    assert overruns(module) is expected


@pytest.mark.parametrize(
    "synapse",
    [nn.Conv2d(4, 8, 1, 2), nn.Conv2d(6, 6, 1, (2, 3), groups=2, bias=False), nn.Conv2d(3, 8, 1, 2, 1)],
    ids=str,
)
def test_they_compute_what_they_did(synapse: nn.Conv2d) -> None:
    x = torch.randn(2, synapse.in_channels, 9, 8, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    got = compute(synapse, (x,), "float32")
    # In float64, which no kernel of oneDNN computes in.
    exact = synapse.double()
    expected = exact(x.double())
    torch.testing.assert_close(got, expected.float())
    residual = torch.randn(got.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(expected, exact.weight, residual.double())
    moment = weight_moment(synapse.float(), x, residual)
    torch.testing.assert_close(moment.mT.flatten(0, 1).view(synapse.weight.shape), gradient.float())


@pytest.mark.parametrize(
    "weights", [Weights(iterations=100, batch_size=16), LeastSquares()], ids=["sgd", "ls"]
)
def test_their_weights_are_calibrated(weights: Weights | LeastSquares) -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(4, 8, 1, 2), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1, 2)
    )
    x = torch.rand(32, 4, 16, 16)
    errors = [
        calibrate(ann, [x], pipeline, progress=False).records[-1]["error"]
        for pipeline in (LCP(2), ACP(2, weights=weights))
    ]
    assert errors[1] < errors[0]
