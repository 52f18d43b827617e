"""How many time steps lie between the first of an inference and its output."""

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import IF, Parallel, Switch, convert
from snn_lightning.graph import normalise
from snn_lightning.spiking.latency import depths
from tests.toys import Dense, MaxPooled, PlainConv, Residual, Vector, inputs, toy


@pytest.mark.parametrize(
    ("cls", "depth"), [(PlainConv, 3), (Residual, 6), (Dense, 5), (MaxPooled, 3), (Vector, 3)]
)
def test_a_window_for_each_neuron_on_the_longest_way_and_one_for_the_readout(
    cls: type[nn.Module], depth: int
) -> None:
    ann, images = toy(cls), inputs(cls, 2)
    assert depths(normalise(ann, images)) == [depth]
    for neuron, windows in ((Parallel(), depth), (Switch(), depth), (IF(), 1)):
        snn = convert(ann, images, 4, neuron=neuron)
        assert snn.latency_steps == 4 * windows
        assert f"An inference takes {windows} x 4 = {4 * windows} time steps" in str(snn)


class Branches(nn.Module):
    """A way of three activations beside one of a single one."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(*(part for _ in range(3) for part in (nn.Linear(4, 4), nn.ReLU())))
        self.short, self.softmax = nn.Linear(4, 4), nn.Softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.long(x) + self.short(x).relu()) + torch.relu(self.short(x))


def test_branches_run_at_the_same_time() -> None:
    torch.manual_seed(0)
    ann, x = Branches(), torch.rand(3, 4)
    body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert depths(normalise(body, x)) == [2]
    assert depths(normalise(ann, x, analog=("Softmax",)))[0] == 4
