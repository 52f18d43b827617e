"""Leaky networks in time: pairs of ordinary neurons approach the ANN and can be calibrated."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import ACP, LCP, Baseline, SpikingModel, Weights, calibrate, convert
from tests.toys import randomise_batch_norms


class Leaky(nn.Module):
    """A LeakyReLU that is called twice, a PReLU a channel, a residual sum. 3 activation calls, 6 sites."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.norm3 = nn.Conv2d(8, 12, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(12)
        self.leaky, self.prelu = nn.LeakyReLU(0.2, inplace=True), nn.PReLU(12)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.leaky(self.norm1(self.conv1(x)))
        x = self.leaky(self.norm2(self.conv2(x)) + x)
        return self.head(self.pool(self.prelu(self.norm3(self.conv3(x)))).flatten(1))


def leaky() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ann = Leaky()
    ann.prelu.weight.data = torch.linspace(-0.3, 1.2, 12)
    return randomise_batch_norms(ann).eval()


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def error(snn: nn.Module, ann: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return ((snn(x) - ann(x)).norm() / ann(x).norm()).item()


def test_the_error_halves_with_twice_the_time_steps() -> None:
    ann, x = leaky(), images(16)
    errors = {steps: error(convert(ann, x, steps), ann, x) for steps in (512, 1024)}
    assert errors[1024] < 0.02
    assert 1.4 < errors[512] / errors[1024] < 3


def test_spikes_are_zero_or_the_threshold_and_a_pair_takes_turns() -> None:
    ann, x = leaky(), images(4)
    snn = convert(ann, x, 16)
    assert len(snn.neurons) == 6
    trains = snn.spikes(x)
    for name, train in trains.items():
        v_th = snn.neurons[name].v_th.view(-1, 1, 1)
        assert ((train == 0) | (train == v_th)).all()
    # The first pair's current is static: only one of the two can ever fire.
    positive, negative = list(trains.values())[:2]
    assert not (positive.any(0) & negative.any(0)).any()
    assert positive.any()
    assert negative.any()


@pytest.mark.parametrize(
    "pipeline",
    [LCP(4), ACP(4, weights=Weights(60, batch_size=16))],
    ids=["lcp", "acp"],
)
def test_calibration_lowers_the_error_of_the_logits(pipeline: Any) -> None:
    ann, x, fresh = leaky(), images(256), images(256, seed=1)
    plain = calibrate(ann, [x], Baseline(4), progress=False)
    snn = calibrate(ann, [x], pipeline, progress=False)
    assert isinstance(snn, SpikingModel)
    assert snn.status == "calibrated"
    assert error(snn, ann, fresh) < 0.9 * error(plain, ann, fresh)
