"""Kinds of neurons as settings: checked, kept in checkpoints, and simulated alike in every way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import (
    IF,
    MMSE,
    Burst,
    IFNeuron,
    Max,
    Signed,
    SpikingModel,
    Switch,
    convert,
    load_converted,
    rescale_to_unit_spikes,
    save_converted,
)
from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.spiking import BurstNeuron, Neuron, SignedNeuron, register_neuron
from snn_lightning.spiking.checkpoint import KEY
from snn_lightning.spiking.neurons.config import neuron_from_spec, neuron_spec
from snn_lightning.thresholds import Percentile
from tests.spiking.older import older_spec
from tests.toys import TOYS, MaxPooled, Residual, inputs, toy

KINDS = [Signed(), Burst(2), Burst(3)]


def converted(cls: type[nn.Module], neuron: Neuron, timesteps: int = 6) -> tuple[SpikingModel, Tensor]:
    """A toy in double precision with low thresholds, at which bursts and clipping happen, and inputs."""
    x = inputs(cls, 6).double()
    snn = convert(toy(cls).double(), x, timesteps, neuron=neuron, threshold=Percentile(percentile=90.0))
    return snn, x


@pytest.mark.parametrize("value", [0, -1, 128, 2.0, True, None, "2"])
def test_a_bad_number_of_spikes_is_named(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"neuron\.spikes must be a whole number from 1 to 127, got "):
        Burst(spikes=value)


@pytest.mark.parametrize("value", ["signed", Signed, IFNeuron(), 3])
def test_what_is_no_kind_of_neuron_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"neuron must be IF\(\), Signed\(\), Burst\(\) or another"):
        convert(toy(Residual), inputs(Residual, 2), 4, neuron=value)


@dataclass(frozen=True)
class Slow(Neuron):
    """A kind of a user's own."""

    def build(self) -> IFNeuron:
        return IFNeuron()


def test_a_kind_of_ones_own_must_be_registered() -> None:
    with pytest.raises(SettingsError, match="is not registered: put @register_neuron on its class"):
        convert(toy(Residual), inputs(Residual, 2), 4, neuron=Slow())
    register_neuron(Slow)
    snn = convert(toy(Residual), inputs(Residual, 2), 4, neuron=Slow())
    assert SpikingModel.from_spec(snn.spec()).neuron == Slow()


def test_every_site_gets_neurons_of_the_kind() -> None:
    for neuron, cls in ((IF(), IFNeuron), (Signed(), SignedNeuron), (Burst(3), BurstNeuron)):
        snn, _ = converted(Residual, neuron)
        assert [type(unit) for unit in snn.neurons.values()] == [cls] * 5
    assert {unit.highest for unit in snn.neurons.values()} == {3}


@pytest.mark.parametrize("neuron", [IF(), *KINDS, Switch()], ids=str)
def test_a_kind_is_plain_numbers_and_strings(neuron: Neuron) -> None:
    spec = neuron_spec(neuron)
    assert all(isinstance(value, int | str) for value in spec.values())
    assert neuron_from_spec(spec) == neuron


@pytest.mark.parametrize("neuron", [*KINDS, Switch()], ids=str)
def test_a_saved_network_keeps_its_neurons(neuron: Neuron, tmp_path: Path) -> None:
    snn, x = converted(MaxPooled, neuron)
    save_converted(snn.float(), tmp_path / "snn.ckpt")
    loaded = load_converted(tmp_path / "snn.ckpt")
    assert loaded.neuron == neuron
    assert torch.equal(loaded.running_mean(x.float()), snn.running_mean(x.float()))


def change_spec(path: Path, change: Any) -> None:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint[KEY]["spec"])
    del checkpoint[KEY]["digest"]
    torch.save(checkpoint, path)


def test_a_checkpoint_that_says_nothing_of_neurons_has_binary_ones(tmp_path: Path) -> None:
    snn, x = converted(Residual, IF())
    save_converted(snn.float(), tmp_path / "snn.ckpt")
    change_spec(tmp_path / "snn.ckpt", lambda spec: (spec.clear(), spec.update(older_spec(snn, 1))))
    loaded = load_converted(tmp_path / "snn.ckpt")
    assert loaded.neuron == IF()
    assert torch.equal(loaded(x.float()), snn(x.float()))


@pytest.mark.parametrize(
    "spec", [{"kind": "Other"}, {"kind": "Burst", "spikes": 0}, {"kind": "IF", "a": 1}, {}]
)
def test_unknown_neurons_in_a_checkpoint_are_named(spec: dict[str, Any], tmp_path: Path) -> None:
    snn, _ = converted(Residual, IF())
    save_converted(snn, tmp_path / "snn.ckpt")
    change_spec(tmp_path / "snn.ckpt", lambda found: found["conversion"].update(neuron=spec))
    with pytest.raises(CheckpointError, match=r"describes neurons .*, which are not known here"):
        load_converted(tmp_path / "snn.ckpt")


@pytest.mark.parametrize("cls", TOYS)
@pytest.mark.parametrize("neuron", KINDS[:2], ids=str)
def test_every_way_to_simulate_gives_the_same_spikes(cls: type[nn.Module], neuron: Neuron) -> None:
    snn, x = converted(cls, neuron)
    together = snn.spikes(x)
    highest = max(
        train.div(snn.neurons[n].v_th.view(-1, *[1] * (train.dim() - 3))).max()
        for n, train in together.items()
    )
    lowest = min(train.min() for train in together.values())
    assert round(highest.item()) == snn.neurons[next(iter(together))].highest
    assert (lowest < 0) == isinstance(neuron, Signed)
    state, records = snn.initial_state(x), []
    for _ in range(6):
        record: dict[str, Tensor] = {}
        snn._advance(state, 1, record)
        records.append(record)
    for name, train in together.items():
        assert torch.equal(torch.cat([record[name] for record in records]), train)
        assert (train.sum(0) >= -1e-12).all()
    whole = snn(x)
    assert torch.allclose(snn.running_mean(x)[-1], whole, rtol=1e-11, atol=1e-13)
    snn(100 * x)
    for rows in (1, 17, 10**6):
        snn.rows = rows
        assert torch.allclose(snn(x), whole, rtol=1e-11, atol=1e-13)
    snn.rows = 1
    many = x.repeat(5, *[1] * (x.dim() - 1))
    assert torch.allclose(snn(many), whole.repeat(5, *[1] * (whole.dim() - 1)), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("neuron", KINDS, ids=str)
@pytest.mark.parametrize("cls", [Residual, MaxPooled])
def test_the_snn_converges_to_the_ann(cls: type[nn.Module], neuron: Neuron) -> None:
    ann, x = toy(cls), inputs(cls, 4)
    with torch.no_grad():
        expected = ann(x)
        errors = [
            ((convert(ann, x, t, neuron=neuron)(x) - expected).norm() / expected.norm()).item()
            for t in (32, 512)
        ]
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 4


def test_a_burst_of_one_is_the_binary_network() -> None:
    one, x = converted(MaxPooled, Burst(1))
    binary, _ = converted(MaxPooled, IF())
    assert torch.equal(one.running_mean(x), binary.running_mean(x))


@pytest.mark.parametrize("neuron", KINDS, ids=str)
def test_rescaled_to_whole_numbers_it_is_the_same_network(neuron: Neuron) -> None:
    snn, x = converted(Residual, neuron)
    unit = rescale_to_unit_spikes(snn)
    assert unit.neuron == neuron
    assert torch.allclose(unit(x), snn(x), rtol=1e-9, atol=1e-11)
    for train in unit.spikes(x).values():
        assert torch.equal(train, train.round())


@pytest.mark.parametrize("spikes", [2, 3])
def test_the_largest_rate_of_a_burst_is_what_a_threshold_searches(spikes: int) -> None:
    ann, x = toy(Residual), inputs(Residual, 32)
    for threshold in (Max(), Percentile(percentile=95.0)):
        binary, burst = (
            convert(ann, x, 4, threshold=threshold, neuron=neuron) for neuron in (IF(), Burst(spikes))
        )
        for name, unit in burst.neurons.items():
            torch.testing.assert_close(spikes * unit.v_th, binary.neurons[name].v_th)
            assert torch.equal(unit.v_init, unit.v_th / 2)
    # The error of k spikes in each of T steps is that of k T steps, with k times the threshold.
    burst = convert(ann, x, 4, threshold=MMSE(), neuron=Burst(spikes))
    longer = convert(ann, x, 4 * spikes, threshold=MMSE())
    for name, unit in burst.neurons.items():
        torch.testing.assert_close(spikes * unit.v_th, longer.neurons[name].v_th)
