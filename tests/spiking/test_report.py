"""Printing a spiking network says how many neurons, thresholds and saved numbers it has."""

from pathlib import Path

import pytest
import torch
from torch import nn

from snn_lightning import Burst, convert, load_converted, rescale_to_unit_spikes, save_converted
from snn_lightning.spiking.checkpoint import KEY
from snn_lightning.spiking.report import spread
from tests.spiking.older import older_spec
from tests.toys import TOYS, MaxPooled, Vector, inputs, toy


def test_a_network_as_text() -> None:
    snn = convert(toy(MaxPooled), inputs(MaxPooled, 2), 5, neuron=Burst(3))
    first, second = snn.neurons.values()
    first.v_th = torch.tensor([4.0, 1.0, 0.125, 2.0, 3.0, 1.5, 0.5, 1000.0])
    second.v_th = torch.tensor(0.25)
    snn.status = "calibrated"
    assert str(snn).splitlines() == [
        "Converted: 2 sites are Burst(spikes=3) neurons, nothing left analog; T=5, calibrated",
        "stage         kind     module  neurons  smallest v_th  median  largest  operators",
        "relu          neuron   -           512          0.125    1.75     1000  Conv2d",
        "pool          gate     pool                                             -",
        "relu_1        neuron   -           160           0.25    0.25     0.25  Conv2d",
        "readout_head  readout  -                                                Flatten, Linear",
        "An inference takes 1 x 5 = 5 time steps",
        "Neurons: 672 for one input of 3 x 8 x 8, the size of the sample; other sizes have more or fewer",
        "Saved: 1,736 weights, 23 biases, 9 thresholds, 18 initial potentials, 19 bias currents; "
        "1,805 numbers in all",
    ]
    assert repr(snn) == str(snn.report)
    assert "relu_1        neuron" in repr(nn.ModuleDict({"net": snn}))


@pytest.mark.parametrize("cls", TOYS)
def test_the_numbers_are_those_of_simulation_and_file(cls: type[nn.Module], tmp_path: Path) -> None:
    x = inputs(cls, 3)
    snn = convert(toy(cls), x, 1, convert_avg_pool=True)
    assert snn.report.neurons == {name: train[0, 0].numel() for name, train in snn.spikes(x).items()}
    save_converted(snn, tmp_path / "snn.ckpt")
    saved = torch.load(tmp_path / "snn.ckpt", weights_only=True)["state_dict"]
    assert sum(snn.report.saved.values()) == sum(tensor.numel() for tensor in saved.values())
    for other in (load_converted(tmp_path / "snn.ckpt"), rescale_to_unit_spikes(snn)):
        assert other.report.shapes == snn.report.shapes
    assert str(load_converted(tmp_path / "snn.ckpt")) == str(snn)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_files_do_not_say_how_many_neurons(version: int, tmp_path: Path) -> None:
    x = inputs(Vector, 2)
    snn = convert(toy(Vector), x, 3)
    spec = older_spec(snn, version)
    del spec["shapes"]
    entry = {"attribute": "", "spec": spec}
    torch.save({KEY: entry, "state_dict": snn.state_dict()}, tmp_path / "snn.ckpt")
    loaded = load_converted(tmp_path / "snn.ckpt")
    assert torch.equal(loaded(x), snn(x))
    lines = str(loaded).splitlines()
    assert lines[2].split()[:4] == ["layers_2", "neuron", "layers.2", "-"]
    assert lines[-2] == "Neurons: not known, older files don't say"


def test_a_network_without_numbers_is_printed_too() -> None:
    snn = convert(toy(Vector), inputs(Vector, 2), 3).to("meta")
    assert str(snn).splitlines()[2].split()[-4:] == ["nan", "nan", "nan", "Linear"]


def test_a_median_between_two_thresholds() -> None:
    assert spread(torch.tensor([8.0, 1.0, 2.0, 4.0])) == (1.0, 3.0, 8.0)
    assert spread(torch.tensor(0.5)) == (0.5, 0.5, 0.5)
