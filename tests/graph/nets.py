"""A network whose forward code is a function of its layers and the input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..toys import randomise_batch_norms


class Net(nn.Module):
    """Some layers of four channels, and the forward code of a test."""

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.other_norm = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu, self.relu6 = nn.ReLU(), nn.ReLU6()
        self.linear = nn.Linear(4, 5)
        self.register_buffer("constant", torch.tensor([0.5, -1.0, 2.0, 0.1]).view(4, 1, 1))
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def net(body: Callable[..., Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise_batch_norms(Net(body)).eval()


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 3
