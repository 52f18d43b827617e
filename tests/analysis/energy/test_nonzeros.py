"""What is not zero in an ANN, against looking at its activations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snn_lightning.analysis.energy.nonzeros import nonzeros
from snn_lightning.graph import normalise

from ...toys import MaxPooled, Residual, inputs, toy


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_inputs_of_synapses_and_activations_of_sites(at_once: int) -> None:
    ann, x = toy(MaxPooled), inputs(MaxPooled, 5)
    x[:, :, 0] = 0
    received: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: received.update({name: args[0]}))
        for name, module in ann.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    network = normalise(ann, x)
    with torch.no_grad():
        ann(x)
    for hook in hooks:
        hook.remove()
    found = nonzeros(network, x, at_once)
    weighted = {network.nodes[name].path: count for name, count in found.items() if name not in network.sites}
    assert weighted.keys() == received.keys()
    for name, values in received.items():
        assert torch.equal(weighted[name], (values != 0).double().sum(0, keepdim=True)), name
    assert all(found[site].dtype == torch.float64 for site in network.sites)


def test_a_relu_that_is_called_twice_is_two_sites() -> None:
    ann, x = toy(Residual), inputs(Residual, 3)
    network = normalise(ann, x)
    found = nonzeros(network, x)
    with torch.no_grad():
        stem = F.relu(ann.stem_norm(ann.stem(x)))
    first, *others = network.sites
    assert found[first].sum() == (stem > 0).sum()
    assert len(others) == 4
    assert len({found[site].sum().item() for site in network.sites}) == 5
