"""Networks of a user's own, for the tests of `model=import`."""

from torch import Tensor, nn

WIDTH = 8


class MyNet(nn.Module):
    """Takes the number of classes and of channels, not the size of the images."""

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = WIDTH) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
        )
        self.head = nn.Linear(16 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


def flat(image_size: int, *, bias: bool) -> nn.Module:
    """Takes the size of the images alone, and a keyword that it needs."""
    return nn.Sequential(nn.Flatten(), nn.Linear(image_size**2, 10, bias))


def loose(**settings: int) -> nn.Module:
    """Takes anything."""
    return MyNet(**{"num_classes": 4, **settings})


def number() -> int:
    return WIDTH


def broken(num_classes: int) -> nn.Module:
    raise KeyError("depth")


finished = nn.Linear(2, 2)
