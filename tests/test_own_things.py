"""train.py and calibrate.py with a network and images of the user's own."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import own_nets
from tests.commands import QUIET, Finished, run
from tests.data.files import write_image_folder

NET = ["model=import", "model.target=nets_of_mine.MyNet", "+model.width=4"]
DATA = ["data=folder", "data.root=images", "data.image_size=16", "data.num_workers=0", "data.batch_size=8"]
SMALL = [*NET, *DATA, "data.calibration_images=8", "trainer=cpu", "trainer.max_epochs=1"]
SNN = [*SMALL, "pipeline=baseline", "T=2", *QUIET]
CLASSES = ["n0000", "n0001"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory: images, and a file with a network."""
    path = tmp_path_factory.mktemp("own")
    write_image_folder(path / "images")
    shutil.copy(own_nets.__file__, path / "nets_of_mine.py")
    yield path
    sys.modules.pop("nets_of_mine", None)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Finished:
    return run(folder, *SMALL, cache=folder / "cache", script="train.py")


@pytest.fixture(scope="module")
def calibrated(trained: Finished, folder: Path) -> Finished:
    ckpt = trained.results["checkpoint"]
    return run(folder, *SNN, f"ckpt={ckpt}", cache=folder / "unused")


def test_train(trained: Finished) -> None:
    assert trained.code == 0, trained.output
    assert "Pretraining nets_of_mine.MyNet on folder" in trained.output
    checkpoint = torch.load(trained.results["checkpoint"], weights_only=True)
    assert checkpoint["hyper_parameters"]["class_names"] == CLASSES
    assert checkpoint["state_dict"]["net.features.0.weight"].shape == (4, 3, 3, 3)
    assert checkpoint["state_dict"]["net.head.weight"].shape == (2, 64)


def test_calibrate_with_a_checkpoint(calibrated: Finished, folder: Path) -> None:
    assert calibrated.code == 0, calibrated.output
    assert "Pretraining" not in calibrated.output
    results = calibrated.results
    assert (results["model"], results["data"]) == ("nets_of_mine.MyNet", "folder")
    assert results["class_names"] == CLASSES
    assert len(results["accuracy_over_time"]) == 2
    snn = torch.load(folder / "snn.ckpt", weights_only=True)
    assert snn["hyper_parameters"]["class_names"] == CLASSES


def test_calibrate_pretrains_once_for_the_same_code_and_images(trained: Finished, folder: Path) -> None:
    reused = "Using the ANN pretrained earlier"
    done = run(folder, *SNN, cache=folder / "cache")
    assert done.code == 0, done.output
    assert reused in done.output
    assert done.results["ann_accuracy"] == trained.results["ann_accuracy"]
    with open(folder / "nets_of_mine.py", "a") as file:
        file.write("\n# changed\n")
    assert reused not in run(folder, *SNN, cache=folder / "cache").output
    shutil.rmtree(folder / "cache" / "partial")
    shutil.copy(
        folder / "images" / "train" / "n0000" / "0.png", folder / "images" / "train" / "n0001" / "x.png"
    )
    assert reused not in run(folder, *SNN, cache=folder / "cache").output


def test_the_checkpoint_of_another_class_is_refused(trained: Finished, folder: Path, tmp_path: Path) -> None:
    ckpt = tmp_path / "other.pt"
    torch.save(own_nets.flat(16, bias=True).state_dict(), ckpt)
    done = run(folder, *SNN, f"ckpt={ckpt}", cache=folder / "unused")
    assert done.code == 1
    assert f"Error: {ckpt} holds the weights of another network (" in done.output
    assert "missing: features.0.weight" in done.output


def test_the_snn_of_other_classes_is_refused(calibrated: Finished, folder: Path, tmp_path: Path) -> None:
    snn = shutil.copy(folder / "snn.ckpt", tmp_path)
    shutil.copytree(folder / "images", tmp_path / "images")
    for part in ("train", "val"):
        (tmp_path / "images" / part / "n0001").rename(tmp_path / "images" / part / "other")
    done = run(folder, *SNN, f"data.root={tmp_path / 'images'}", f"ckpt={snn}", cache=folder / "unused")
    assert done.code == 1
    assert "has class_names=['n0000', 'n0001'], and folder has ['n0000', 'other']" in done.output
