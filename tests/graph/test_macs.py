"""The share of multiply-accumulates that spike, against counting by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import conversion_report, convert

from .nets import images, net

FIRST, SECOND, LINEAR = 3 * 4 * 9 * 36, 4 * 4 * 9 * 36, 4 * 5
"""Multiply-accumulates of the layers of `net` on `images`; the linear one reads one vector."""


def excited(s: Any, x: Tensor) -> Tensor:
    x = F.relu(s.conv(x))
    x = x * s.second(x).sigmoid()
    return s.linear(F.relu(s.second(x)).mean((2, 3)))


def shifted(s: Any, x: Tensor) -> Tensor:
    x = F.relu(s.conv(x))
    gain = s.conv(x[:, :3]).sigmoid()
    return s.second(F.relu(s.second(x + gain)))


CASES: dict[str, tuple[Callable[..., Any], int, int]] = {
    "chain": (lambda s, x: s.second(F.relu(s.conv(x))), SECOND, FIRST + SECOND),
    "mean": (lambda s, x: s.linear(F.relu(s.conv(x)).mean((2, 3))), LINEAR, FIRST + LINEAR),
    "max pool": (lambda s, x: s.second(F.max_pool2d(s.conv(x).relu(), 2)), SECOND // 4, FIRST + SECOND // 4),
    "two leaky sites": (lambda s, x: s.second(F.leaky_relu(s.conv(x))), SECOND, FIRST + SECOND),
    "current": (lambda s, x: s.second(s.second(F.relu(s.conv(x)))), SECOND, FIRST + 2 * SECOND),
    "current and spikes": (
        lambda s, x: s.second(F.relu(y := s.conv(x)) + y),
        0,
        FIRST + SECOND,
    ),
    # What only leads to an analog operator reads the mean, as the operator itself does.
    "excited": (excited, LINEAR, FIRST + 2 * SECOND + LINEAR),
    "a mean and a gain": (shifted, SECOND, 2 * FIRST + 2 * SECOND),
    "analog product": (lambda s, x: (y := s.conv(x).relu()) @ y.transpose(2, 3), 0, FIRST + 4 * 6**3),
    "analog tail": (lambda s, x: s.second(F.relu(s.conv(x))).sigmoid(), SECOND, FIRST + SECOND),
    "synapses in the tail": (
        lambda s, x: s.linear(F.relu(s.conv(x)).mean((2, 3)).softmax(1)),
        0,
        FIRST + LINEAR,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_share(case: str, device: str) -> None:
    body, spiking, macs = CASES[case]
    report = conversion_report(net(body).to(device), images().to(device), analog="auto")
    assert report.share == pytest.approx(spiking / macs)
    assert f"{report.share:.1%} of the multiply-accumulates receive spikes" in str(report)


def test_there_may_be_none_at_all() -> None:
    assert conversion_report(nn.ReLU(), torch.ones(1, 2)).share == 0


def test_a_model_does_not_say() -> None:
    report = convert(net(CASES["chain"][0]), images(), 4).report
    assert report.share is None
    assert "receive spikes" not in str(report)
