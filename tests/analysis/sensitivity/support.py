"""A network by hand."""

import torch
from torch import Tensor, nn

from snn_lightning import SpikingModel, convert


def linear(*rows: list[float]) -> nn.Linear:
    weight = torch.tensor(rows)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    return layer


def two_layers() -> tuple[nn.Module, SpikingModel, Tensor]:
    """T=2, thresholds 1 and 0.8. ANN: x = (0.7, 1.4), 0.7, y = 2.1. SNN: (0.5, 1), 0.4, 1.2."""
    ann = nn.Sequential(linear([1.0], [2.0]), nn.ReLU(), linear([2.0, -0.5]), nn.ReLU(), linear([3.0]))
    images = torch.tensor([[0.7]])
    snn = convert(ann, images, 2)
    for unit, v_th in zip(snn.neurons.values(), ([1.0, 1.0], [0.8]), strict=True):
        unit.set_threshold(torch.tensor(v_th), "potential", 2)
    return ann, snn, images


Y = 2.1**2
