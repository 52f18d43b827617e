"""The report needs no numbers: on the meta device it finds the same sites, stages and obstacles."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snn_lightning import conversion_report, convert
from snn_lightning.errors import ConversionError
from snn_lightning.graph import normalise

from ..toys import TOYS, Vector, inputs, toy
from .nets import images, net
from .test_operators import FORMS
from .test_sites import FORMS as USUAL


@pytest.mark.parametrize("cls", TOYS)
@pytest.mark.parametrize("convert_avg_pool", [False, True])
def test_toys_have_the_same_stages(cls: type[nn.Module], convert_avg_pool: bool) -> None:
    x = inputs(cls, 2)
    real = conversion_report(toy(cls), x, convert_avg_pool=convert_avg_pool)
    report = conversion_report(toy(cls).to("meta"), x.to("meta"), convert_avg_pool=convert_avg_pool)
    assert report == real
    assert report.convertible


def test_constants_need_no_numbers() -> None:
    def body(s: Any, x: torch.Tensor) -> torch.Tensor:
        x = F.prelu(s.conv(x) * s.constant, s.norm.bias) + s.norm.weight.view(4, 1, 1)
        return s.second(x) * s.other_norm.running_var.view(1, 4, 1, 1)

    assert conversion_report(net(body).to("meta"), images().to("meta")).sites == 2


# torch itself refuses constants that are not on the meta device.
PLAIN = {"scales", "slice scaled a channel", "position parameter", "position parameter first"}
PLAIN |= {"constant that widens"}


@pytest.mark.parametrize("form", sorted((USUAL.keys() | FORMS.keys()) - PLAIN))
def test_forms_have_the_same_stages(form: str) -> None:
    ann = net((USUAL | FORMS)[form])
    real = conversion_report(ann, images())
    assert conversion_report(ann.to("meta"), images().to("meta")) == real


def test_obstacles_are_the_same() -> None:
    ann, x = nn.Sequential(nn.Conv2d(3, 3, 1), nn.GELU(), nn.GroupNorm(1, 3), nn.Softmax(1)).eval(), images()
    real = conversion_report(ann, x)
    assert len(real.obstacles) == 3
    assert conversion_report(ann.to("meta"), x.to("meta")) == real


def test_nothing_else_works_without_numbers() -> None:
    ann, x = toy(Vector).to("meta"), inputs(Vector, 2).to("meta")
    for call in (lambda: normalise(ann, x), lambda: convert(ann, x, 4)):
        with pytest.raises(ConversionError, match=r"on the meta device.*pass real inputs"):
            call()
