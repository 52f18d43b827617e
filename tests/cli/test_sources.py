"""calibrate.py data_source=...: images of the data, of a folder, of the ANN, noise, and several of them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import Finished, run

SMALL = [
    *("data=digits", "model=resnet20", "model.width=4", "trainer=cpu", "trainer.max_epochs=1", "T=2"),
    *("data.train_images=192", "data.test_images=40", "data.image_size=8", "callbacks=none", "logger=none"),
    *("data.calibration_images=32", "pipeline=baseline", "synthesis.iterations=2", "report=false"),
]


@pytest.fixture(scope="module")
def anns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anns")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five colourful images of several sizes."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for index in range(5):
        pixels = random.integers(0, 256, (6 + index, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def finished(folder: Path, anns: Path, *overrides: str) -> Finished:
    done = run(folder, *SMALL, *overrides, cache=anns)
    assert done.code == 0, done.output
    return done


def test_real_images_are_the_default(anns: Path, tmp_path: Path) -> None:
    results = finished(tmp_path, anns).results
    assert (results["data_source"], results["calibration_images"]) == ("real", {"real": 32})


def test_noise_and_a_folder(anns: Path, photos: Path, tmp_path: Path) -> None:
    done = finished(tmp_path / "run", anns, "data_source=folder+noise", f"path={photos}")
    assert done.results["data_source"] == "folder+noise"
    assert done.results["calibration_images"] == {"folder": 5, "noise": 27}
    assert {stage["images"] for stage in done.results["stages"]} == {32}


def test_images_of_the_ann_on_the_page_and_in_the_cache(anns: Path, tmp_path: Path) -> None:
    sources = ["data_source=synthetic+real", "report=true"]
    done = finished(tmp_path / "first", anns, *sources)
    assert done.results["calibration_images"] == {"synthetic": 16, "real": 16}
    assert done.results["seconds"]["synthesis"] > 0
    sheet = (done.folder / "contact_sheet.png").read_bytes()
    page = (done.folder / "report.html").read_text()
    assert "calibrated with 16 images made from the ANN and 16 of the training data" in page
    assert page.count('<img src="data:image/png;base64,') == 1

    (folder,) = (anns / "synthetic").iterdir()
    times = {path: path.stat().st_mtime_ns for path in folder.glob("image_*.png")}
    again = finished(tmp_path / "second", anns, sources[0])
    assert {path: path.stat().st_mtime_ns for path in folder.glob("image_*.png")} == times
    assert (again.folder / "contact_sheet.png").read_bytes() == sheet
    assert again.results["snn_accuracy"] == done.results["snn_accuracy"]


def test_a_sweep_of_sources(anns: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "-m", *SMALL, "data_source=noise,synthetic", "ann_seed=0", cache=anns)
    assert done.code == 0, done.output
    sheets = sorted(path.parent.name for path in tmp_path.rglob("contact_sheet.png"))
    assert sheets == ["1"]
    assert len(list(tmp_path.rglob("results.json"))) == 2


def test_a_dry_run_makes_no_images(anns: Path, tmp_path: Path) -> None:
    done = finished(tmp_path / "run", tmp_path / "cache", "data_source=synthetic", "dry_run=true")
    assert re.search(r"Making 32 images from the ANN, 1 batch: \S+ s and \S+ MiB of activations", done.output)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("data_source=sintetic", "unknown data_source: 'sintetic'; did you mean 'synthetic'"),
        ("data_source=noise+noise", "data_source=noise+noise names a source twice"),
        ("data_source=folder", "data_source=folder needs path="),
        ("path=photos", "path=photos is of data_source=folder, and data_source=real"),
        ("data_source=folder path=/nonexistent", "path: there is no folder /nonexistent"),
        ("data_source=real+noise data.calibration_images=1", "no image is left for noise"),
        (
            "data_source=real+noise data.calibration_images=1000",
            "the real part of data.calibration_images=500",
        ),
        ("data_source=synthetic synthesis.iterations=0", "synthesis.iterations must be a whole number"),
        ("data_source=synthetic model=resnet20 model.batch_norm=false", "has no batch norm"),
        ("data_source=synthetic synthesis.statistics=none.pt", "There is no checkpoint 'none.pt'"),
        (
            "data_source=noise pipeline=acp augment=null data.calibration_images=8",
            "fewer than its batch of 32",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    tmp_path: Path, overrides: str, message: str
) -> None:
    done = run(tmp_path / "run", *SMALL, *overrides.split(), cache=tmp_path / "cache")
    assert done.code == 1
    assert "Error: " in done.output
    assert message in done.output
    assert "Pretraining" not in done.output
    assert not list((tmp_path / "cache").glob("*.ckpt"))


def test_a_damaged_image_of_a_folder(photos: Path, anns: Path, tmp_path: Path) -> None:
    (photos / "3.png").write_bytes(b"damaged")
    sources = ["data_source=folder+noise", f"path={photos}"]
    done = run(tmp_path / "refused", *SMALL, *sources, cache=tmp_path / "cache")
    assert done.code == 1
    assert f"Error: the image {photos / '3.png'} can't be read" in done.output
    assert "skip_unreadable=true" in done.output
    assert "Pretraining" not in done.output
    with pytest.warns(UserWarning, match=r"1 of 5 images in .*photos can't be read"):
        done = finished(tmp_path / "run", anns, *sources, "skip_unreadable=true")
    assert done.results["calibration_images"] == {"folder": 4, "noise": 28}


def test_boxes_are_calibrated_on_real_images_alone(tmp_path: Path) -> None:
    overrides = ["module=detection", "data=shapes", "model=retinanet", "data.images=20", "data.test_size=4"]
    given = [*overrides, "data.image_size=32", "trainer=cpu", "network=backbone.body", "data_source=noise"]
    done = run(tmp_path / "run", *given, cache=tmp_path / "cache")
    assert done.code == 1
    assert "Error: data_source=noise gives batches of images of one size" in done.output
    assert "Pretraining" not in done.output
