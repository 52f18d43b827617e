"""The SNN's synapses in bf16: its neurons stay float32, and the setting stays with the model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import SpikingModel, convert, load_converted, rescale_to_unit_spikes, save_converted
from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.graph.operators import traits_of
from snn_lightning.spiking.checkpoint import KEY
from tests.spiking.older import older_spec
from tests.toys import Residual, Signal, Vector, inputs, toy


def exact(cls: type[nn.Module], precision: str) -> tuple[SpikingModel, Tensor]:
    """A network whose sums float32 holds exactly, in any order, and bf16 does not."""
    x = (inputs(cls, 4) * 64).round() / 64
    snn = convert(toy(cls), x, 6, precision=precision)
    for value in snn.state_dict().values():
        value.copy_((value * 1024).round() / 1024)
    return snn, x


@torch.no_grad()
def literal(snn: SpikingModel, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Simulate step by step, with everything that the temporal synapses multiply rounded by hand."""
    network, potentials, trains, total = snn.network, {}, {}, 0.0
    (leaf,) = [stage.current for stage in network.stages if stage.kind == "readout"]
    for _ in range(snn.timesteps):
        values = {"input": x}
        for name, node in network.nodes.items():
            read = [values[key] for key in node.inputs]
            operator = network.operators[name]
            if traits_of(operator).weighted and name in network.temporal:
                plain, bias = copy.deepcopy(operator).double(), operator.bias
                plain.weight.data, plain.bias = operator.weight.bfloat16().double(), None
                y = plain(read[0].bfloat16().double()).bfloat16().float()
                if bias is not None:
                    y = y + bias.view(-1, *[1] * (y.dim() - 2))
                values[name] = y
            elif name in snn.neurons:
                unit, current = snn.neurons[name], read[0]
                shape = (-1, *[1] * (current.dim() - 2))
                v_th, v_init = unit.v_th.view(shape), unit.v_init.view(shape)
                v = potentials.get(name, v_init) + current
                values[name] = torch.where(v >= v_th, v_th, torch.zeros(()))
                potentials[name] = v - values[name]
                trains.setdefault(name, []).append(values[name])
            else:
                values[name] = operator(*read)
        total = total + values[leaf]
    return {name: torch.stack(train) for name, train in trains.items()}, total / snn.timesteps


@pytest.mark.parametrize("cls", [Residual, Signal, Vector])
def test_spikes_are_those_of_a_literal_simulation(cls: type[nn.Module]) -> None:
    snn, x = exact(cls, "bf16")
    expected, mean = literal(snn, x)
    trains = snn.spikes(x)
    assert trains.keys() == expected.keys()
    for name, train in trains.items():
        assert torch.equal(train, expected[name]), name
    assert torch.allclose(snn(x), mean, atol=1e-6)
    snn.precision = "float32"
    assert not torch.allclose(snn(x), mean, atol=1e-4)


def test_neurons_stay_float32() -> None:
    x = inputs(Residual)
    snn = convert(toy(Residual), x, 6, precision="bf16")
    _, state = snn.step(snn.initial_state(x))
    for name, train in snn.spikes(x).items():
        v_th = snn.neurons[name].v_th
        assert train.dtype == v_th.dtype == state.units[name].dtype == torch.float32
        assert not torch.equal(v_th.bfloat16().float(), v_th)
        assert torch.equal(train, (train != 0) * v_th.view(-1, 1, 1))
    assert snn(x).dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_an_autocast_around_the_network_changes_nothing(precision: str) -> None:
    """As Lightning's `bf16-mixed` has it: neurons in bf16 would lose what their potentials add up."""
    x = inputs(Residual)
    snn = convert(toy(Residual), x, 6, precision=precision)
    expected = snn.running_mean(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(snn.running_mean(x), expected)
        assert {train.dtype for train in snn.spikes(x).values()} == {torch.float32}


def test_currents_stay_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    x, seen = inputs(Residual).contiguous(memory_format=torch.channels_last), []
    snn = convert(toy(Residual), x, 3, precision="bf16")
    for unit in snn.neurons.values():
        forward = unit.forward

        def watched(current: Tensor, *args: Any, forward: Any = forward, **kwargs: Any) -> Any:
            seen.append(current.flatten(0, -4).is_contiguous(memory_format=torch.channels_last))
            return forward(current, *args, **kwargs)

        monkeypatch.setattr(unit, "forward", watched)
    for precision in ("float32", "bf16"):
        snn.precision = precision
        snn(x)
    assert len(seen) == 2 * len(snn.neurons)
    assert all(seen)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_precision_stays_with_the_model(precision: str, tmp_path: Path) -> None:
    x = inputs(Vector)
    snn = convert(toy(Vector), x, 6, precision=precision)
    save_converted(snn, tmp_path / "snn.ckpt")
    loaded = load_converted(tmp_path / "snn.ckpt")
    others = [loaded, copy.deepcopy(snn), SpikingModel.from_spec(snn.spec()), rescale_to_unit_spikes(snn)]
    assert [other.precision for other in others] == [precision] * 4
    assert torch.equal(loaded(x), snn(x))


def old(path: Path, version: int, **changes: Any) -> Path:
    """A checkpoint of an older format, with other values in its description."""
    snn = convert(toy(Vector), inputs(Vector), 6, precision="bf16")
    entry = {"attribute": "", "spec": older_spec(snn, version) | changes}
    torch.save({KEY: entry, "state_dict": snn.state_dict()}, path)
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_older_checkpoints_are_float32(tmp_path: Path, version: int) -> None:
    snn = load_converted(old(tmp_path / "c.ckpt", version))
    assert snn.precision == "float32"
    x = inputs(Vector)
    expected = convert(toy(Vector), x, 6, precision="bf16")
    assert not torch.equal(snn(x), expected(x))
    expected.precision = "float32"
    assert torch.equal(snn(x), expected(x))


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"of another version: precision must be one of .*, got 'fp8'"):
        load_converted(old(tmp_path / "c.ckpt", 3, precision="fp8"))
    snn = convert(toy(Vector), inputs(Vector), 3)
    with pytest.raises(SettingsError, match="precision must be one of float32, tf32, bf16, got 'half'"):
        snn.precision = "half"
    with pytest.raises(SettingsError, match="precision must be one of float32, tf32, bf16, got 'half'"):
        convert(toy(Vector), inputs(Vector), 3, precision="half")


@pytest.mark.parametrize("analog", [(), ("0",)])
def test_what_an_autocast_in_front_gives_is_taken(analog: tuple[str, ...]) -> None:
    """A detector's stem gives its body bfloat16 in `bf16-mixed`; analog operators give none themselves."""
    head = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid())
    ann = nn.Sequential(head if analog else nn.Identity(), nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    x = torch.rand(2, 3, 6, 6).bfloat16()
    snn = convert(ann, x.float(), 4, analog=analog)
    expected, trains = snn(x.float()), snn.spikes(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(snn(x), expected)
        assert torch.equal(snn.running_mean(x)[-1], expected)
        assert torch.equal(snn.initial_state(x).static["input"], x.float())
        for name, train in snn.spikes(x).items():
            assert torch.equal(train, trains[name])
