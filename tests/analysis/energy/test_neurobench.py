"""Our counts are NeuroBench's, or the reason is here.

`pip install snn_lightning[neurobench]` goes with every other extra, and PyTorch stays as it is. But
NeuroBench brings numba, llvmlite, librosa, tonic and torchaudio, 250 MB that none of its counts need, so that
it is no part of the extra `test`, and these tests are skipped without it.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import IF, Burst, Signed, SpikingModel, convert, rescale_to_unit_spikes
from snn_lightning.analysis.energy import StageEnergy, measure_energy
from snn_lightning.spiking import Neuron
from snn_lightning.thresholds import Max

workload = pytest.importorskip("neurobench.metrics.workload")
models = pytest.importorskip("neurobench.models")

PAIR = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])


def measured(net: nn.Module, x: Tensor, metric: str = "SynapticOperations") -> Any:
    """What NeuroBench counts of an image."""
    model = models.TorchModel(net)
    model.register_hooks()
    try:
        return getattr(workload, metric)()(model, model(x), (x, torch.zeros(len(x))))
    finally:
        model.cleanup_hooks()


def ours(snn: SpikingModel, x: Tensor) -> StageEnergy:
    return measure_energy(snn, x).total


def network() -> nn.Sequential:
    """With padding and biases, which count neither there nor here."""
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.ReLU())
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(12, 2)).requires_grad_(False)


def images() -> Tensor:
    return torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)) / 2 + 0.25


def test_the_anns_operations_are_the_same() -> None:
    ann, x = network(), images()
    x[:, :, 0] = 0
    total, found = ours(convert(ann, x, 4), x), measured(ann, x)
    # 100 of each of 2 kernels reach the image; then 4 places of 3 kernels of 18; then 12 by 2.
    assert found["Dense"] == total.ann == 2 * 100 + 4 * 3 * 18 + 24
    assert found["Effective_MACs"] == pytest.approx(total.nonzero)
    assert found["Effective_ACs"] == 0
    assert total.nonzero < total.ann


def test_the_anns_activations_are_the_same() -> None:
    ann, x = network(), images()
    total = ours(convert(ann, x, 4), x)
    assert total.active < total.neurons == 2 * 16 + 12
    assert measured(ann, x, "ActivationSparsity") == pytest.approx(1 - total.active / total.neurons)


@pytest.mark.parametrize("neuron", [IF(), Signed()], ids=str)
def test_the_operations_of_unit_spikes_are_the_same(neuron: Neuron) -> None:
    ann, x = network(), images()
    snn = rescale_to_unit_spikes(convert(ann, x, 4, neuron=neuron))
    total, found = ours(snn, x), measured(snn, x)
    assert found["Effective_ACs"] == pytest.approx(total.accumulates)
    assert found["Effective_MACs"] == total.multiplications == 200
    # All T steps of every temporal synapse, spike or none: more than the ANN's.
    assert found["Dense"] == 200 + 4 * (4 * 3 * 18 + 24)


def test_spikes_that_are_worth_a_threshold_are_multiplied_there() -> None:
    ann, x = network(), images()
    snn = convert(ann, x, 4)
    total, found = ours(snn, x), measured(snn, x)
    assert found["Effective_ACs"] == 0
    assert found["Effective_MACs"] == pytest.approx(total.accumulates + total.multiplications)


def relay(*behind: nn.Module, **settings: Any) -> SpikingModel:
    """Four neurons whose threshold is 1; each receives its own place of the input."""
    ann = nn.Sequential(nn.ReLU(), *behind).requires_grad_(False)
    return convert(ann, torch.ones(1, 1, 2, 2), 4, threshold=Max("layer"), **settings)


def test_a_burst_of_two_is_one_operation_there_and_two_here() -> None:
    snn = relay(nn.Flatten(), nn.Linear(4, 3), neuron=Burst(2))
    for neuron in snn.neurons.values():
        neuron.v_th.fill_(0.5)
        neuron.v_init.fill_(0.25)
    # Two neurons fire bursts of two, worth 0.5 each, at all of 4 steps: their values are 1.
    found, total = measured(snn, PAIR), ours(snn, PAIR)
    assert total.accumulates == 2 * 2 * 4 * 3
    assert (found["Effective_ACs"], found["Effective_MACs"]) == (2 * 4 * 3, 0)


def test_a_mean_of_two_spikes_is_one_multiplication_there_and_two_additions_here() -> None:
    snn = relay(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1, 3))
    found, total = measured(snn, PAIR), ours(snn, PAIR)
    assert total.accumulates == 2 * 4 * 3
    assert (found["Effective_ACs"], found["Effective_MACs"]) == (0, 4 * 3)


@pytest.mark.parametrize(("value", "kind"), [(0.5, "Effective_MACs"), (1.0, "Effective_ACs")])
def test_the_image(value: float, kind: str) -> None:
    """Its zeros are skipped there and multiplied here; an image of ones and zeros is spikes there."""
    ann = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).requires_grad_(False)
    ann[0].weight.fill_(-1.0)
    ann[0].bias.fill_(0.0)
    x = torch.tensor([[value, value, 0.0, 0.0]])
    snn = convert(ann, torch.ones(1, 4), 4)
    found, total = measured(snn, x), ours(snn, x)
    # Nothing fires, so that the second synapse has nothing to do.
    assert (total.multiplications, total.accumulates, total.nonzero) == (12, 0, 6)
    assert found["Effective_MACs"] + found["Effective_ACs"] == found[kind] == 6


def test_weights_of_zero_are_skipped_there() -> None:
    ann, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.full((1, 4), 0.5)
    ann.requires_grad_(False)
    ann[0].weight.fill_(1.0)
    ann[0].weight[0] = 0.0
    ann[0].bias.fill_(1.0)
    total, found = ours(convert(ann, x, 4), x), measured(ann, x)
    assert total.nonzero == found["Dense"] == 12 + 6
    assert found["Effective_MACs"] == 12 + 6 - 4
