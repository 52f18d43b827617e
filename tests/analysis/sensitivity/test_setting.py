"""The setting that leaves sites analog."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import convert
from snn_lightning.analysis.sensitivity import analog_setting

from .support import linear


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.shared, self.single = (
            linear([1.0]), linear([2.0]), nn.ReLU(), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.second(self.shared(self.first(x))))
        return F.relu(self.second(self.single(self.first(x))))


def test_the_setting_names_modules_that_can_be_left_analog() -> None:
    ann, images = Mixed(), torch.rand(4, 1)
    snn = convert(ann, images, 4)
    first, second, single, function = snn.network.sites
    assert analog_setting(ann, snn, [single]) == "analog:\n  - 'single'"
    both = convert(ann, images, 4, analog=("single", "shared"))
    assert len(both.network.sites) == 1
    assert analog_setting(ann, snn, [second, single]).splitlines() == [
        "analog:",
        f"  - 'shared'  # and with it {first}",
        "  - 'single'",
    ]
    assert analog_setting(ann, snn, [first, second]) == "analog:\n  - 'shared'"
    assert analog_setting(ann, snn, [function]).splitlines() == [
        "analog: []",
        f"# {function} is a function call in '': make it a module of its own to name it",
    ]
