"""As much of timm as `model=timm` uses, for tests without timm."""

import sys
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor, nn

NAMES = ["efficientnet_b0", "resnet18"]


class Gated(nn.Module):
    """A convolution whose channels are multiplied by a gate, and SiLU."""

    def __init__(self, in_chans: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3)
        self.se = nn.Conv2d(4, 4, 1)
        self.act = nn.SiLU()
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        x = x * self.se(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.fc(x.mean((2, 3)))


def create_model(
    name: str, *, pretrained: bool, num_classes: int, in_chans: int, **settings: Any
) -> nn.Module:
    if pretrained:
        raise RuntimeError("no network")
    if settings:
        raise TypeError(f"unexpected keyword argument {next(iter(settings))!r}")
    if name == "efficientnet_b0":
        return Gated(in_chans, num_classes)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, num_classes))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import timm` give this."""
    module = ModuleType("timm")
    module.create_model, module.list_models = create_model, lambda: list(NAMES)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
