from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snn_lightning import SpikingModel, convert, load_converted, save_converted
from snn_lightning.errors import CheckpointError
from snn_lightning.spiking.checkpoint import KEY, find_spiking_model, rebuild_spiking_model, write_spec

from ..toys import TOYS, Residual, Vector, inputs, toy


def converted(cls: type[nn.Module], **settings: Any) -> tuple[SpikingModel, torch.Tensor]:
    x = inputs(cls, 4)
    snn = convert(toy(cls), x, 5, **settings)
    for neuron in snn.neurons.values():
        # As after calibration: a potential of its own for each neuron.
        shape = snn.spikes(x)[next(iter(snn.neurons))].shape[2:]
        if neuron is next(iter(snn.neurons.values())):
            neuron.v_init = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return snn, x


@pytest.mark.parametrize("cls", TOYS)
def test_a_saved_network_comes_back_bit_for_bit(cls: type[nn.Module], tmp_path: Path) -> None:
    snn, x = converted(cls, convert_avg_pool=True)
    snn.status = "calibrated"
    save_converted(snn, tmp_path / "snn.ckpt")
    generator = torch.get_rng_state()
    loaded = load_converted(tmp_path / "snn.ckpt")
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(loaded(x), snn(x))
    assert torch.equal(loaded.running_mean(x), snn.running_mean(x))
    assert (loaded.timesteps, loaded.status, loaded.training) == (5, "calibrated", False)
    assert loaded.spec() == snn.spec()
    for name, value in snn.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_the_file_holds_tensors_and_plain_values_alone(tmp_path: Path) -> None:
    snn, _ = converted(Residual)
    save_converted(snn, tmp_path / "snn.ckpt")
    checkpoint = torch.load(tmp_path / "snn.ckpt", weights_only=True)
    assert set(checkpoint) == {KEY, "state_dict"}
    assert checkpoint[KEY]["spec"]["timesteps"] == 5
    assert any(name.endswith("v_init") for name in checkpoint["state_dict"])


def test_thresholds_and_potentials_are_in_the_state() -> None:
    snn, _ = converted(Vector)
    for name in snn.neurons:
        assert {f"units.{name}.{key}" for key in ("v_th", "v_init", "bias")} <= set(snn.state_dict())


def test_the_weights_of_an_ann_are_refused_with_the_remedy() -> None:
    snn, _ = converted(Vector)
    with pytest.raises(CheckpointError, match=r"weights of an ANN.*trainer.test\(model\) rather than"):
        snn.load_state_dict(toy(Vector).state_dict())
    wrapper = nn.ModuleDict({"net": snn})
    with pytest.raises(CheckpointError, match="converted to an SNN"):
        wrapper.load_state_dict({f"net.{k}": v for k, v in toy(Vector).state_dict().items()})


def save(path: Path, change: Any) -> None:
    snn, _ = converted(Vector)
    save_converted(snn, path)
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.pop(KEY),
            "holds no spiking network: it is the checkpoint of an ANN. Calibrate it first",
        ),
        (lambda c: c["state_dict"].popitem(), "do not fit its own description"),
        (
            lambda c: c[KEY]["spec"].update(format=99),
            "in format 99, and this version .* calibrate the ANN again",
        ),
        (lambda c: c[KEY]["spec"].pop("format"), "in format None"),
        (lambda c: c[KEY]["spec"]["network"].pop("nodes"), "not readable"),
    ],
)
def test_other_checkpoints_are_refused_with_the_remedy(tmp_path: Path, change: Any, message: str) -> None:
    save(tmp_path / "c.ckpt", change)
    with pytest.raises(CheckpointError, match=message):
        load_converted(tmp_path / "c.ckpt")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_converted(tmp_path / "nothing.ckpt")


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"net": net})


def test_a_network_inside_another_module_is_found_and_rebuilt(tmp_path: Path) -> None:
    snn, x = converted(Vector)
    module = Wrapper(snn)
    assert find_spiking_model(module) == ("inner.net", snn)
    assert find_spiking_model(Wrapper(toy(Vector))) is None
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    write_spec(module, checkpoint)
    fresh = Wrapper(toy(Vector, seed=1))
    rebuild_spiking_model(fresh, checkpoint)
    fresh.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(fresh.inner["net"](x), snn(x))
    torch.save(checkpoint, tmp_path / "c.ckpt")
    assert torch.equal(load_converted(tmp_path / "c.ckpt")(x), snn(x))


def test_an_anns_checkpoint_gets_no_description() -> None:
    checkpoint: dict[str, Any] = {}
    ann = Wrapper(toy(Vector))
    write_spec(ann, checkpoint)
    rebuild_spiking_model(ann, checkpoint)
    assert checkpoint == {}
    assert find_spiking_model(ann) is None
