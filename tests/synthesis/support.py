"""A network that has seen pictures, and networks that can't say what they saw."""

import torch
from torch import Tensor, nn

from tests.toys import PlainConv, toy


def pictures(count: int = 64, channels: int = 3, size: int = 8) -> Tensor:
    """Return smooth pictures in 0…1, `[N, C, size, size]`."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, channels, 2, 2, generator=generator)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") ** 2


def experienced(channels: int = 3) -> nn.Module:
    """Return a network of convolutions whose batch norms have seen `pictures`, in eval mode."""
    net = toy(PlainConv)
    if channels != 3:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net.features[0] = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    net.train()
    with torch.no_grad():
        net(pictures(256, channels))
    return net.eval()


class Plain(nn.Module):
    """Convolution and linear layer, without batch norm, and an activation that works in place."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv, self.relu, self.head = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Linear(4, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).mean((2, 3)))
