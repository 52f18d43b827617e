"""The differentiable simulation gives the model's output, and the surrogate's gradients."""

import pytest
import torch
from torch import nn

from snn_lightning import Bias, IFNeuron, Potential, calibrate
from snn_lightning.spiking.surrogate import DAMPING, differentiable_forward, spike_train
from tests.calibration.support import Custom
from tests.toys import TOYS, MaxPooled, PlainConv, inputs, toy


@pytest.mark.parametrize("cls", TOYS)
def test_the_output_is_the_models(cls: type[nn.Module]) -> None:
    pipeline = Custom(3, first=Bias(), second=Potential())
    model = calibrate(toy(cls), [inputs(cls, 6)], pipeline, progress=False)
    x = inputs(cls, 5, seed=1)
    torch.testing.assert_close(differentiable_forward(model, x), model(x), rtol=1e-4, atol=1e-5)


def test_gradients_of_one_neuron_by_hand() -> None:
    # v_th = 2: v = 1.5 (silent) and then 1.5 + 1 = 2.5 (a spike), both with derivative 0.75 * DAMPING.
    current = torch.tensor([[[1.5]], [[1.0]]], requires_grad=True)
    spikes = spike_train(IFNeuron(torch.tensor(2.0), "floor"), current, 2)
    assert spikes.flatten().tolist() == [0.0, 2.0]
    first, second = torch.autograd.grad(spikes[1].sum(), current, retain_graph=True)[0].flatten().tolist()
    d = 0.75 * DAMPING
    assert second == pytest.approx(d)
    # What the first step would have fired is missing in the second.
    assert first == pytest.approx(d * (1 - d))
    assert torch.autograd.grad(spikes[0].sum(), current)[0].flatten().tolist() == pytest.approx([d, 0.0])


def test_far_from_the_threshold_there_is_no_gradient() -> None:
    current = torch.tensor([[[-0.5]], [[0.0]], [[9.0]]], requires_grad=True)
    spikes = spike_train(IFNeuron(torch.tensor(2.0), "floor"), current, 3)
    assert spikes.flatten().tolist() == [0.0, 0.0, 2.0]
    assert not torch.autograd.grad(spikes.sum(), current)[0].any()


@pytest.mark.parametrize("cls", [PlainConv, MaxPooled])
def test_every_weight_gets_a_gradient(cls: type[nn.Module]) -> None:
    model = calibrate(toy(cls), [inputs(cls, 6)], Custom(4), progress=False).requires_grad_()
    differentiable_forward(model, inputs(cls, 6)).square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert len(gradients) == 6
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
