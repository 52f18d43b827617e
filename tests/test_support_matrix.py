"""docs/support.md says what conversion finds; `python -m tests.test_support_matrix` writes it anew."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import conversion_report
from snn_lightning.graph.capture.lowering import FUNCTION_RULES, MODULE_RULES
from snn_lightning.graph.capture.remedies import REMEDIES
from snn_lightning.graph.report import ConversionReport

from .graph.support_page import NAMES, SECTIONS, counts, page, row, rows_of
from .graph.weightless import activation_calls
from .graph.zoo import CLASSIFIERS, FAMILIES, MEMBERS, SEGMENTERS, TIMM, Found, examine

PAGE = Path(__file__).parents[1] / "docs" / "support.md"
STALE = "docs/support.md is not what conversion finds: look at the difference, then run `{}`".format(
    "python -m tests.test_support_matrix"
)
QUICK = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_800mf",
    "regnet_y_800mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vit_b_32",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn: backbone.body",
    "retinanet_resnet50_fpn: backbone",
    "ssd300_vgg16: backbone",
    "ghostnet: ghostnet_050",
    "resnest: resnest14d",
    "senet: legacy_seresnet18",
    "vgg: vgg11",
    "volo: volo_d1_224",
)
"""One of each of torchvision's families, and a few others; the rest takes minutes."""


def examined(name: str) -> Found:
    if name in MEMBERS and pytest.importorskip("timm").__version__ != TIMM:
        pytest.skip(f"the page speaks of timm {TIMM}")
    return examine(name)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_the_page_says_what_conversion_finds(name: str) -> None:
    found = examined(name)
    assert row(name, found) == rows_of(PAGE.read_text(), [name])[name], STALE
    if name in CLASSIFIERS + SEGMENTERS and found.auto.convertible:
        assert found.auto.sites == activation_calls(found.ann, found.sample)
    elif not found.auto.convertible:
        no_activation = found.auto.problem.startswith("The network has no activation")
        assert no_activation or not activation_calls(found.ann, found.sample)
    if name in CLASSIFIERS and not found.whole.convertible:
        check_refusal(found.whole)


def test_the_page_has_every_family_of_timm() -> None:
    timm = pytest.importorskip("timm")
    if timm.__version__ != TIMM:
        pytest.skip(f"the page speaks of timm {TIMM}")
    assert sorted(FAMILIES) == sorted(timm.list_modules())
    assert all(member in timm.list_models(module=family) for family, member in FAMILIES.items())


REMEDY = {
    **dict.fromkeys(("SiLU", "Sigmoid", "GELU", "Hardswish", "Hardsigmoid", "Tanh"), "smooth"),
    **dict.fromkeys(("LayerNorm", "layer_norm"), "norm"),
    **dict.fromkeys(("mul", "einsum"), "product"),
    **dict.fromkeys(("MultiheadAttention", "shifted_window_attention"), "attention"),
    "softmax": "inner softmax",
}
"""The whole of what stands in the way in torchvision's classifiers; and a class token."""


def check_refusal(report: ConversionReport) -> None:
    """One message names every obstacle with its module, source line and remedy, and none that is false."""
    text = str(report)
    assert report.sites == 0
    assert text.startswith(f"Not convertible: {len(report.obstacles)} obstacles\n  1. ")
    for number, obstacle in enumerate(report.obstacles, 1):
        if obstacle.operator == "cat":
            assert "a constant, such as a class token" in obstacle.remedy
        else:
            assert obstacle.remedy == REMEDIES[REMEDY[obstacle.operator]]
        where = f"module '{obstacle.path}'" if obstacle.path else "the top module"
        assert re.search(r"torchvision[/\\]\w+[/\\]\w+\.py:\d+: \S", obstacle.line)
        assert f"  {number}. {obstacle.operator} in {where} ({obstacle.line}): {obstacle.remedy}" in text


def test_everything_else_on_the_page_is_true() -> None:
    text = PAGE.read_text()
    assert page(rows_of(text, NAMES)) == text, STALE
    assert set(QUICK) <= set(NAMES)


def test_the_readme_says_how_many_convert() -> None:
    rows = rows_of(PAGE.read_text(), NAMES)
    count, whole, auto = counts(rows, CLASSIFIERS)
    families, *converted = counts(rows, MEMBERS)
    line = f"""{whole} of torchvision's {count} classifiers do whole; {auto} more with `analog="auto"`, """
    line += f"as do {sum(converted)} of timm's {families} families"
    assert line in " ".join((PAGE.parents[1] / "README.md").read_text().split())


def test_every_public_rule_is_on_the_page() -> None:
    rules = {
        rule.__module__.rpartition(".")[2]
        for rule in (*MODULE_RULES.values(), *FUNCTION_RULES.values())
        if rule.__module__.startswith("snn_lightning.")
    }
    assert rules - set(SECTIONS) == {"vision"}


class Shared(nn.Module):
    """Calls one module three times, and activations that are no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.relu = nn.Linear(4, 4), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.relu(self.linear(x))
        return (F.relu(x - 1) + (x - 2).clamp(min=0)).relu_()


def test_the_count_of_activation_calls_is_one_that_can_fail() -> None:
    assert activation_calls(Shared(), torch.ones(1, 4)) == 6
    assert activation_calls(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), torch.ones(1, 4)) == 0
    assert conversion_report(Shared(), torch.ones(1, 4)).sites == 6


if __name__ == "__main__":
    PAGE.write_text(page({name: row(name, examine(name)) for name in NAMES}))
