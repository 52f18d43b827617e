import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snn_lightning import SpikingModel, convert, load_converted, save_converted
from snn_lightning.errors import CheckpointError
from snn_lightning.spiking.checkpoint import KEY, find_spiking_model, rebuild_spiking_model, write_spec
from tests.toys import TOYS, Residual, Vector, inputs, toy


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
    assert checkpoint[KEY]["spec"]["conversion"]["timesteps"] == 5
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


CHANGES = {
    "a weight": lambda c: c["state_dict"]["network.operators.layers_0.weight"][0, 0].add_(1e-6),
    "a threshold's type": lambda c: c["state_dict"].update(
        {k: v.double() for k, v in c["state_dict"].items() if k.endswith("v_th")}
    ),
    "a path": lambda c: c[KEY]["spec"]["network"]["nodes"][0].update(path="layers.1"),
    "time steps": lambda c: c[KEY]["spec"]["conversion"].update(timesteps=6),
    "the digest": lambda c: c[KEY].update(digest="0" * 64),
    "the digest's name": lambda c: c[KEY].update(digesu=c[KEY].pop("digest")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_is_refused(tmp_path: Path, change: Any) -> None:
    save(tmp_path / "c.ckpt", change)
    message = r"c\.ckpt' can't be loaded.*differ from those that were saved.*Take another copy, or calibrate"
    with pytest.raises(CheckpointError, match=message):
        load_converted(tmp_path / "c.ckpt")


def test_checkpoints_of_older_versions_have_no_digest(tmp_path: Path) -> None:
    save(tmp_path / "c.ckpt", lambda c: c[KEY].pop("digest"))
    assert torch.equal(
        load_converted(tmp_path / "c.ckpt")(inputs(Vector, 4)), converted(Vector)[0](inputs(Vector, 4))
    )


def test_a_description_that_asks_for_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    def change(checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY]["spec"]["network"]["nodes"][0]["settings"]["out_features"] = 10**12

    save(tmp_path / "c.ckpt", change)
    message = (
        r"c\.ckpt' can't be loaded.*'layers_0' \(Linear\) asks for a weight of shape \(1000000000000, 10\), "
    )
    with pytest.raises(
        CheckpointError, match=message + r"and the file has \(16, 10\).*convert the ANN again"
    ):
        load_converted(tmp_path / "c.ckpt")


@pytest.mark.parametrize("entry", [{}, [], {"attribute": 3, "spec": {}}, {"attribute": "", "spec": None}])
def test_an_entry_of_another_form_is_refused(tmp_path: Path, entry: Any) -> None:
    save(tmp_path / "c.ckpt", lambda c: c.update({KEY: entry}))
    with pytest.raises(CheckpointError, match=r"can't be loaded.*it is damaged.*calibrate the ANN again"):
        load_converted(tmp_path / "c.ckpt")


def test_a_flipped_bit_is_refused_where_lightning_reads_the_file(tmp_path: Path) -> None:
    """It looks at no checksum of the file's."""
    snn, _ = converted(Vector)
    path, module = tmp_path / "c.ckpt", Wrapper(snn)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    write_spec(module, checkpoint)
    torch.save(checkpoint, path)
    content, generator, silent = path.read_bytes(), random.Random(0), 0
    weight = content.index(snn.network.operators["layers_0"].weight.numpy().tobytes())
    for place in [weight + 8, content.index(b"layers.0"), *generator.sample(range(len(content)), 150)]:
        changed = bytearray(content)
        changed[place] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        fresh = Wrapper(toy(Vector, seed=1))
        try:
            loaded = torch.load(path, weights_only=True)
            rebuild_spiking_model(fresh, loaded)
            fresh.load_state_dict(loaded["state_dict"])
        except Exception:
            continue
        silent += 1
        assert fresh.inner["net"].spec() == snn.spec()
        assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in module.state_dict().items())
    assert 0 < silent < 150


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
