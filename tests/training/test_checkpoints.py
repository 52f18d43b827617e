from pathlib import Path

import pytest
import torch
from torch import nn

from snn_lightning.errors import CheckpointError
from snn_lightning.files import read_checkpoint
from snn_lightning.models import create_model
from snn_lightning.training import ClassificationModule, load_weights


def network(width: float = 0.0625) -> nn.Module:
    return create_model("vgg16_bn", num_classes=4, in_channels=1, width=width)


def same(one: nn.Module, two: nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("prefix", ["", "net.", "model.", "module.", "model._orig_mod."])
@pytest.mark.parametrize("nested", [True, False])
def test_prefixes_are_stripped(tmp_path: Path, prefix: str, nested: bool) -> None:
    source, target = network(), network()
    weights = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3} if nested else weights, tmp_path / "a.ckpt")
    assert not same(source, target)
    load_weights(target, tmp_path / "a.ckpt")
    assert same(source, target)


def test_a_module_takes_a_networks_weights(tmp_path: Path) -> None:
    source = network()
    torch.save(source.state_dict(), tmp_path / "a.pt")
    target = ClassificationModule({"name": "vgg16_bn", "width": 0.0625}, 4, 1, 32)
    load_weights(target, tmp_path / "a.pt")
    assert same(source, target.net)


def test_a_network_beside_another_is_found(tmp_path: Path) -> None:
    source, target = network(), network()
    weights = {f"student.{k}": v for k, v in source.state_dict().items()}
    weights |= {f"teacher.{k}": v for k, v in network(0.125).state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "a.ckpt")
    load_weights(target, tmp_path / "a.ckpt")
    assert same(source, target)


def test_a_network_of_one_branch_is_loaded(tmp_path: Path) -> None:
    source, target = (nn.Sequential(nn.Sequential(nn.Linear(2, 2))) for _ in range(2))
    torch.save({f"net.{k}": v for k, v in source.state_dict().items()}, tmp_path / "a.pt")
    load_weights(target, tmp_path / "a.pt")
    assert same(source, target)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda w: w.pop("classifier.0.bias"), ["1 missing: classifier.0.bias"]),
        (lambda w: w.update(extra=torch.zeros(1)), ["1 unexpected: extra"]),
        (lambda w: w.update({"classifier.0.bias": torch.zeros(7)}), ["classifier.0.bias [7] instead of [4]"]),
    ],
)
def test_another_networks_weights_are_refused(tmp_path: Path, change, parts: list[str]) -> None:
    weights = network().state_dict()
    change(weights)
    torch.save(weights, tmp_path / "a.pt")
    target = network()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(target, tmp_path / "a.pt")
    for part in [*parts, str(tmp_path / "a.pt"), "set model"]:
        assert part in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_a_long_list_of_differences_is_cut(tmp_path: Path) -> None:
    torch.save(
        create_model("resnet20", num_classes=4, in_channels=1, width=4).state_dict(), tmp_path / "a.pt"
    )
    with pytest.raises(CheckpointError, match="…") as caught:
        load_weights(network(), tmp_path / "a.pt")
    assert len(str(caught.value)) < 800 + len(str(tmp_path))


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*none\.ckpt"):
        read_checkpoint(tmp_path / "none.ckpt")
    good = tmp_path / "good.ckpt"
    torch.save(network().state_dict(), good)
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(good.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt.*Name another one"):
        read_checkpoint(cut)
    torch.save({"net": network()}, tmp_path / "pickled.ckpt")
    with pytest.raises(CheckpointError, match="plain values"):
        read_checkpoint(tmp_path / "pickled.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(tmp_path / "list.ckpt")
    torch.save({"epoch": 3}, tmp_path / "empty.ckpt")
    with pytest.raises(CheckpointError, match="no weights"):
        load_weights(network(), tmp_path / "empty.ckpt")
