"""Detectors from the command line: trained, calibrated, and tested again from the checkpoint of the SNN."""

from pathlib import Path

import pytest

from snn_lightning.data import Shapes
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.training import LitDetector
from tests.commands import Finished, run

DATA = ["data=shapes", "data.image_size=32", "data.images=8", "data.test_size=3", "data.batch_size=4"]
MODEL = ["model.backbone=resnet18", "model.weights_backbone=null", "model.fpn_channels=32"]
TRAINER = [
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=none",
    "callbacks=none",
]
TINY = [*DATA, *MODEL, *TRAINER, "data.val_fraction=0.25", "model.score_thresh=0.0"]
FEW = ["data.calibration_images=4", "T=4", "pipeline.weights.iterations=2", "pipeline.weights.batch_size=2"]
ONE = "trainer.accumulate_grad_batches=1"
TABLE = ["experiment=pc_table4", "hydra.mode=RUN"]
SITES = 17


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detection")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> list[str]:
    return [*TINY, f"data_root={folder}"]


@pytest.fixture(scope="module")
def fitted(tiny: list[str], folder: Path) -> Finished:
    return run(folder / "ann", "experiment=pc_coco_retinanet", *tiny, ONE, cache=folder, script="train.py")


@pytest.fixture(scope="module")
def spiking(tiny: list[str], fitted: Finished, folder: Path) -> Finished:
    assert fitted.code == 0, fitted.output
    few = [*FEW, "pipeline.potential.images=4", "report=false"]
    return run(folder / "snn", *TABLE, *tiny, ONE, *few, cache=folder)


def test_train_leaves_a_detector(fitted: Finished) -> None:
    assert fitted.code == 0, fitted.output
    results = fitted.results
    assert results["scores"] == ["map50", "map"]
    assert 0 <= results["ann_map"] <= results["ann_map50"] <= 1
    net = LitDetector.load_from_checkpoint(results["checkpoint"]).net
    assert net.backbone.body.conv1.weight.requires_grad is False
    assert net.backbone.body.layer2[0].conv1.weight.requires_grad is True


def test_results_of_a_calibration(spiking: Finished, fitted: Finished) -> None:
    assert spiking.code == 0, spiking.output
    assert "Using the ANN pretrained earlier" in spiking.output
    results = spiking.results
    assert results["ann_map50"] == fitted.results["ann_map50"]
    assert {"uncalibrated_map50", "uncalibrated_map", "snn_map"} <= set(results)
    assert results["times"] == [1, 2, 4]
    assert len(results["map50_over_time"]) == len(results["map_over_time"]) == 3
    assert results["map50_over_time"][-1] == results["snn_map50"]
    assert results["class_names"][:2] == ["background", "circle"]
    assert (results["pipeline"], results["config"]["network"]) == ("acp_paper", "backbone.body")
    assert len(results["stages"]) == SITES + 1
    potentials = [value for name, value in spiking.state.items() if name.endswith(".v_init")]
    assert [value.dim() for value in potentials] == [1] * SITES


def test_the_checkpoint_of_the_snn_is_tested_again(spiking: Finished, tiny: list[str], folder: Path) -> None:
    again = run(
        folder / "again",
        *TABLE,
        *tiny,
        ONE,
        f"ckpt={spiking.folder / 'snn.ckpt'}",
        "report=false",
        cache=folder,
    )
    assert again.code == 0, again.output
    for key in ("snn_map50", "snn_map", "map50_over_time", "times", "spikes_per_image", "timesteps"):
        assert again.results[key] == spiking.results[key]
    assert "ann_map50" not in again.results


def test_the_checkpoint_of_the_snn_detects_in_a_program(spiking: Finished, folder: Path) -> None:
    lit = LitDetector.load_from_checkpoint(spiking.folder / "snn.ckpt").eval()
    assert isinstance(lit.net.backbone.body, SpikingModel)
    data = Shapes(folder, images=8, test_size=3, image_size=32, batch_size=4)
    images, _ = next(iter(data.test_dataloader()))
    assert [sorted(found) for found in lit(images)] == [["boxes", "labels", "scores"]] * 3


def test_a_dry_run_says_what_converts(tiny: list[str], folder: Path) -> None:
    done = run(
        folder / "dry",
        *TABLE,
        *tiny,
        "data.calibration_images=4",
        "dry_run=true",
        cache=folder,
    )
    assert done.code == 0, done.output
    assert f"{SITES} sites become neurons" in done.output
    assert not (done.folder / "results.json").exists()


def test_the_experiment_for_a_laptop(tiny: list[str], folder: Path) -> None:
    few = [
        "experiment=shapes_detection",
        "model=faster_rcnn",
        "pipeline=lcp",
        "T=2",
        "data.calibration_images=4",
        "report=false",
    ]
    done = run(folder / "shapes", *few, *tiny[1:], cache=folder)
    assert done.code == 0, done.output
    results = done.results
    assert (results["model"], results["data"]) == ("faster_rcnn", "shapes")
    assert len(results["map50_over_time"]) == 2
    assert 0 <= results["snn_map50"] <= 1


def test_a_whole_detector_can_not_spike(tiny: list[str], folder: Path) -> None:
    few = ["experiment=shapes_detection", *tiny[1:], "pipeline=lcp", "data.calibration_images=4"]
    done = run(folder / "whole", *few, "network=null", "dry_run=true", cache=folder)
    assert done.code == 1
    assert "name the part that becomes spiking: network='backbone.body'" in done.output


def test_a_detector_needs_its_module(tiny: list[str], spiking: Finished, folder: Path) -> None:
    ckpt = f"ckpt={spiking.folder / 'snn.ckpt'}"
    done = run(folder / "other", "data=shapes", f"data_root={folder}", "trainer=cpu", ckpt, cache=folder)
    assert done.code == 1
    assert (
        "model.name=retinanet is for detection and the module for classification: set module=detect"
        in done.output
    )
