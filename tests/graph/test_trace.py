"""A forward that sets its modules anew: each call keeps what it was called with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import conversion_report, convert
from snn_lightning.errors import ConversionError
from snn_lightning.graph import normalise

from ..toys import randomise_batch_norms
from .nets import images, net
from .test_sites import assert_equal

TIMES = 3


class Recurrent(nn.Module):
    """A recurrent block as in CORnet-S: shared convolutions, one of another stride the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_input, self.skip = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, stride=2, bias=False)
        self.norm_skip = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 8, 1, bias=False)
        self.conv2 = nn.Conv2d(8, 4, 3, stride=2, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        for t in range(TIMES):
            setattr(self, f"norm1_{t}", nn.BatchNorm2d(8))
            setattr(self, f"norm2_{t}", nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_input(x)
        for t in range(TIMES):
            if t == 0:
                skip = self.norm_skip(self.skip(x))
                self.conv2.stride = (2, 2)
            else:
                skip = x
                self.conv2.stride = (1, 1)
            x = self.relu(getattr(self, f"norm1_{t}")(self.conv1(x)))
            x = getattr(self, f"norm2_{t}")(self.conv2(x))
            x += skip
            x = self.relu(x)
        return x


class Changing(nn.Module):
    """Sets one thing of a module between two calls."""

    def __init__(self, module: nn.Module, name: str, *values: Any) -> None:
        super().__init__()
        self.module, self.name, self.values = module, name, values

    def forward(self, x: Tensor) -> Tensor:
        for value in self.values:
            setattr(self.module, self.name, value)
            x = F.relu(self.module(x)) - 0.1
        return x


def weights(count: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(3, 3, 3, 3, generator=generator) / 5) for _ in range(count)]


def attributes(ann: nn.Module) -> list[dict[str, Any]]:
    """Return all that the modules have; a parameter equals itself alone."""
    return [{k: dict(v) if isinstance(v, dict) else v for k, v in vars(m).items()} for m in ann.modules()]


CHANGING: dict[str, Callable[[], nn.Module]] = {
    "recurrent": Recurrent,
    "average pool": lambda: Changing(nn.AvgPool2d(2, 1), "kernel_size", 2, 3),
    "max pool": lambda: Changing(nn.MaxPool2d(2, 1), "kernel_size", 3, 2),
    "dropout": lambda: Changing(nn.Dropout(), "p", 0.1, 0.9),
    "weight": lambda: Changing(nn.Conv2d(3, 3, 3), "weight", *weights(2)),
    "cap": lambda: Changing(nn.Hardtanh(0, 2), "max_val", 2.0, 1.0),
}


@pytest.mark.parametrize("case", CHANGING)
def test_each_call_keeps_the_settings_it_was_made_with(case: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ann = randomise_batch_norms(CHANGING[case]()).eval()
    before = attributes(ann)
    network = normalise(ann, images())
    assert conversion_report(ann, images()).sites == len(network.sites)
    assert attributes(ann) == before
    assert_equal(ann, network, images(4))


def test_a_recurrent_network_converts() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ann = randomise_batch_norms(Recurrent()).eval()
    x = images(4)
    errors = [((convert(ann, x, t)(x) - ann(x)).norm() / ann(x).norm()).item() for t in (8, 512)]
    assert errors[1] < 0.02 < errors[0]


def by_size(s: Any, x: Tensor) -> Tensor:
    x = s.second(F.relu(s.conv(x)))
    if x.shape[-1] < 9 and x.device.type != "cuda" and x.is_floating_point():
        x = F.interpolate(x, scale_factor=2)
    *_, height, width = x.shape
    assert height == width, "a square"
    return torch.cat([part for part in x.relu().chunk(2, 1)], 1)[:, :, : height // 2]


def in_a_module(s: Any, x: Tensor) -> Tensor:
    small = s.second.weight.mean((2, 3)).shape[0] == s.norm(s.conv(x)).shape[1]
    return s.linear((s.conv(x) if small else x).relu().mean((2, 3)))


@pytest.mark.parametrize("body", [by_size, in_a_module])
def test_sizes_decide_where_the_control_flow_goes(body: Callable[..., Any]) -> None:
    ann, called = net(body), nn.Module.__call__
    assert_equal(ann, normalise(ann, images()), images(5))
    assert nn.Module.__call__ is called
    report = conversion_report(ann.to("meta"), images().to("meta"))
    assert report == conversion_report(net(body), images())
    assert report.sites == len(normalise(net(body), images()).sites)


def test_the_device_may_choose_an_autocast() -> None:
    def body(s: Any, x: Tensor) -> Tensor:
        with torch.autocast(device_type=x.device.type, enabled=False):
            x = F.relu(s.conv(x))
            return s.second(x + torch.ones(4, 1, 1, device=x.device))

    assert_equal(net(body), normalise(net(body), images()), images(5))


@pytest.mark.parametrize(
    "body",
    [
        lambda s, x: s.conv(x).relu() if x.sum() > 0 else s.second(s.conv(x)),
        lambda s, x: s.conv(x).relu() if x.max().item() else x,
        lambda s, x: torch.cat([row[None] for row in s.conv(x).relu()]),
    ],
)
def test_numbers_may_not_decide(body: Callable[..., Any]) -> None:
    with pytest.raises(ConversionError, match=r"can't be traced at .*test_trace.py:\d+: "):
        normalise(net(body), images())


def test_the_size_of_the_batch_may_not_decide() -> None:
    ann = net(lambda s, x: s.conv(x).relu() if x.shape[0] > 1 else s.second(s.conv(x)).relu())
    with pytest.raises(ConversionError, match="does not reproduce the ANN"):
        normalise(ann, images())


def test_other_sizes_may_not_decide_otherwise() -> None:
    ann = net(by_size)
    with pytest.raises(ConversionError, match="converted for inputs of"):
        normalise(ann, images(), [F.interpolate(images(), scale_factor=2)])


def test_other_sizes_are_inputs_that_the_ann_takes() -> None:
    ann, message = (
        net(lambda s, x: s.conv(x).relu()),
        r"takes inputs of \(3, .* fails on those of \(1, 9, 9\)",
    )
    with pytest.raises(ConversionError, match=message):
        normalise(ann, images(), [torch.rand(1, 1, 9, 9)])
