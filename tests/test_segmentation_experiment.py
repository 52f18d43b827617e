"""Segmentation from the command line: train, calibrate, test, and what the files say."""

import shutil
from pathlib import Path

import pytest
import torch

from snn_lightning import load_converted
from snn_lightning.data import Shapes
from snn_lightning.training import LitSegmenter
from tests.commands import ROOT, Finished, run
from tests.test_docs import blocks

IMAGES = ["data.images=16", "data.test_size=4", "data.image_size=32", "data.batch_size=4"]
IMAGES += ["data.calibration_images=4", "data.val_fraction=0.25"]
SMALL = [
    "experiment=shapes_segmentation",
    *IMAGES,
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=none",
    "callbacks=none",
]
QUICK = ["pipeline.weights.iterations=1", "pipeline.weights.batch_size=2"]
SCORES = ("miou", "pixel_accuracy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segmentation")


def started(folder: Path, name: str, *overrides: str, script: str = "calibrate.py") -> Finished:
    quiet = ["report=false"] if script == "calibrate.py" else []
    overrides = (*SMALL, *quiet, f"data_root={folder / 'data'}", *overrides)
    return run(folder / name, *overrides, cache=folder / "cache", script=script)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Finished:
    return started(folder, "trained", script="train.py")


@pytest.fixture(scope="module")
def calibrated(trained: Finished, folder: Path) -> Finished:
    return started(folder, "calibrated", "T=4", *QUICK)


def test_train_leaves_both_scores(trained: Finished, folder: Path) -> None:
    assert trained.code == 0, trained.output
    results = trained.results
    assert results["scores"] == list(SCORES)
    assert results["class_names"][0] == "background"
    module = LitSegmenter.load_from_checkpoint(results["checkpoint"]).eval()
    data = Shapes(folder / "data", images=16, test_size=4, image_size=32, target="masks")
    x, y = next(iter(data.test_dataloader()))
    with torch.no_grad():
        right = (module(x).argmax(1) == y).float().mean().item()
    assert results["ann_pixel_accuracy"] == pytest.approx(right, abs=1e-6)
    assert "ANN mIoU" in trained.output
    assert "ANN pixel accuracy" in trained.output


def test_calibrate_scores_the_snn_at_doubling_time_steps(calibrated: Finished, trained: Finished) -> None:
    assert calibrated.code == 0, calibrated.output
    results = calibrated.results
    assert results["times"] == [1, 2, 4]
    for name in SCORES:
        assert results[f"ann_{name}"] == trained.results[f"ann_{name}"]
        assert 0 <= results[f"uncalibrated_{name}"] <= 1
        assert len(results[f"{name}_over_time"]) == 3
        assert results[f"{name}_over_time"][-1] == results[f"snn_{name}"]
    assert results["energy_ratio"] > 0


def test_the_snn_gives_what_the_ann_gives_and_is_tested_again(calibrated: Finished, folder: Path) -> None:
    path = calibrated.folder / "snn.ckpt"
    snn = load_converted(path)
    assert list(snn(torch.rand(1, 3, 32, 32))) == ["out"]
    again = started(folder, "again", f"ckpt={path}")
    assert again.code == 0, again.output
    for key in ("snn_miou", "snn_pixel_accuracy", "miou_over_time", "times", "scores", "energy_ratio"):
        assert again.results[key] == calibrated.results[key]
    assert "ann_miou" not in again.results


def test_a_dry_run_says_what_it_would_cost(folder: Path) -> None:
    done = started(folder, "dry", "dry_run=true")
    assert done.code == 0, done.output
    assert "classifier.2" in done.output
    assert "Pretraining" not in done.output
    assert not (done.folder / "results.json").exists()


def test_deeplab_spikes_whole(folder: Path) -> None:
    small = ["model=deeplabv3", "model.backbone=resnet18", "model.atrous_rates=[1,2,3]"]
    done = started(folder, "deeplab", *small, "pipeline=lcp", "T=1")
    assert done.code == 0, done.output
    assert "Converted: 16 sites are IF() neurons, nothing left analog" in done.output
    assert "classifier.0.convs.4.3" in done.output  # behind the mean over all positions
    assert len(done.results["miou_over_time"]) == 1


def test_lraspp_keeps_what_has_no_spiking_form(folder: Path) -> None:
    small = ["model=lraspp", "model.backbone=mobilenet_v3_small", "pipeline=baseline", "T=1"]
    refused = started(folder, "refused", *small)
    assert refused.code == 1
    assert "Hardswish" in refused.output
    assert "Pretraining" not in refused.output
    done = started(folder, "lraspp", *small, "analog=auto")
    assert done.code == 0, done.output
    assert "left analog" in done.output
    assert len(done.results["miou_over_time"]) == 1


def test_boxes_are_no_masks(folder: Path) -> None:
    done = started(folder, "boxes", "data.target=boxes", script="train.py")
    assert done.code == 1
    assert "Error: Segmentation needs batches" in done.output
    assert "set data.target=masks" in done.output


def test_the_picture_of_the_page(
    calibrated: Finished, trained: Finished, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained.results["checkpoint"], "ann.ckpt")
    shutil.copy(calibrated.folder / "snn.ckpt", "snn.ckpt")
    names = {"data": Shapes(folder / "data", images=16, test_size=4, image_size=32, target="masks")}
    exec(blocks(ROOT / "docs" / "segmentation.md", "python")[0], names)
    assert Path("masks.png").stat().st_size > 0
    assert len(names["figure"].axes) == 16
    assert names["snn"].spiking.timesteps == 4
