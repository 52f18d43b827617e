"""Small networks with one structure each, for tests that need a whole network and little time.

Every class is built without arguments, takes inputs of `INPUT_SHAPES[cls]` (without the batch), and has
random weights from the global generator; `toy(cls)` seeds it, sets realistic batch norms and puts it in eval
mode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

AS_GIVEN: dict[str, Any] = {"augment": None, "held_out": 0}
"""Of a pipeline that is fitted to all images, and to them alone."""


class PlainConv(nn.Module):
    """Two convolutions with batch norm, average pooling, a linear readout. 2 sites."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.features(x), 1))


class Residual(nn.Module):
    """A basic block whose one ReLU module is called twice, and a block with a 1x1 shortcut. 5 sites."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.norm3 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv4, self.norm4 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.down, self.down_norm = nn.Conv2d(8, 12, 1, stride=2, bias=False), nn.BatchNorm2d(12)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem_norm(self.stem(x)))
        x = self.relu(x + self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))))
        y = self.norm4(self.conv4(self.relu(self.norm3(self.conv3(x)))))
        y += self.down_norm(self.down(x))
        return self.head(F.relu(y).mean((2, 3)))


class Bottleneck(nn.Module):
    """Inverted residual: expand, depthwise, linear projection, ReLU6. 3 sites, two synapses in a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.block = nn.Sequential(
            nn.Conv2d(6, 12, 1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU6(inplace=True),
            nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU6(inplace=True),
            nn.Conv2d(12, 6, 1, bias=False),
            nn.BatchNorm2d(6),
        )
        self.last, self.last_norm = nn.Conv2d(6, 10, 1, bias=False), nn.BatchNorm2d(10)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x))
        x = F.relu6(self.last_norm(self.last(x + self.block(x))))
        return self.head(self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class Dense(nn.Module):
    """Concatenation and batch norm before the activation, as in DenseNet. 4 sites, affine operators."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(10), nn.Conv2d(10, 4, 3, padding=1, bias=False)
        self.norm3, self.conv3 = nn.BatchNorm2d(14), nn.Conv2d(14, 8, 1, bias=False)
        self.norm4, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)
        x = torch.cat([x, self.conv2(F.relu(self.norm2(x)))], 1)
        x = F.avg_pool2d(self.conv3(F.relu(self.norm3(x))), 2)
        return self.head(F.relu(self.norm4(x)).mean([2, 3]))


class MaxPooled(nn.Module):
    """Max pooling behind the first activation, overlapping windows with padding. 2 sites, 1 gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(10)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(10 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.norm1(self.conv1(x))))
        return self.head(self.norm2(self.conv2(x)).relu().flatten(1))


class Signal(nn.Module):
    """A network of 1-D signals. 2 sites."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv1d(2, 6, 5, stride=2, padding=2), nn.BatchNorm1d(6)
        self.conv2, self.norm2 = nn.Conv1d(6, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool1d(F.relu(self.norm1(self.conv1(x))), 2)
        return self.head(F.relu(self.norm2(self.conv2(x))).mean(-1))


class Volume(nn.Module):
    """A network of 3-D volumes. 2 sites."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.conv2, self.norm2 = nn.Conv3d(4, 6, 3, stride=2, padding=1), nn.BatchNorm3d(6)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return self.head(self.pool(x).flatten(1))


class Vector(nn.Module):
    """A perceptron of vectors with batch norm and dropout. 2 sites."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(10, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(16, 12),
            nn.ReLU(),
            nn.Linear(12, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


INPUT_SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    PlainConv: (3, 8, 8),
    Residual: (3, 8, 8),
    Bottleneck: (3, 8, 8),
    Dense: (3, 8, 8),
    MaxPooled: (3, 8, 8),
    Signal: (2, 24),
    Volume: (1, 4, 6, 6),
    Vector: (10,),
}
"""Input shape without the batch, by toy."""

SITES: dict[type[nn.Module], int] = {
    PlainConv: 2,
    Residual: 5,
    Bottleneck: 3,
    Dense: 4,
    MaxPooled: 2,
    Signal: 2,
    Volume: 2,
    Vector: 2,
}
"""Activation calls, by toy."""

TOYS = tuple(INPUT_SHAPES)


def randomise_batch_norms(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm in `module` realistic statistics and parameters; return `module`."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return (torch.rand(like.shape, generator=generator) * (high - low) + low).to(like)

    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, _BatchNorm):
                if norm.track_running_stats:
                    norm.running_mean.copy_(uniform(norm.running_mean, -0.3, 0.3))
                    norm.running_var.copy_(uniform(norm.running_var, 0.3, 1.5))
                if norm.affine:
                    norm.weight.copy_(uniform(norm.weight, 0.6, 1.4))
                    norm.bias.copy_(uniform(norm.bias, -0.3, 0.3))
    return module


def toy(cls: type[nn.Module], seed: int = 0) -> nn.Module:
    """Return a toy in eval mode with weights that depend on `seed` alone; the global generator is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomise_batch_norms(cls(), seed).eval()


def inputs(cls: type[nn.Module], count: int = 8, seed: int = 0) -> Tensor:
    """Return `count` standard normal inputs `[N, ...]` of a toy."""
    return torch.randn(count, *INPUT_SHAPES[cls], generator=torch.Generator().manual_seed(seed))
