"""Wrong settings, wrong files, a full disk: a message with the remedy, an exit status, nothing damaged."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from snn_lightning.cli import experiment, outputs
from tests.commands import ACP, BASELINE, MODEL, ROOT, Finished, full_disk, in_new_interpreter, run

KEPT = {"results.json": b'{"earlier": true}', "snn.ckpt": b"earlier"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the results of an earlier run."""
    path = tmp_path / "run"
    path.mkdir()
    for name, content in KEPT.items():
        (path / name).write_bytes(content)
    return path


def assert_refused(done: Finished, *parts: str) -> None:
    assert done.code == 1, done.output
    for part in parts:
        assert part in done.output
    assert "Traceback" not in done.output
    message = done.output[done.output.index(parts[0]) :].strip().splitlines()
    # The options of a group that Hydra lists are indented, and no part of what one has to read.
    assert len([line for line in message if not line.startswith("\t")]) < 12
    for name, content in KEPT.items():
        assert (done.folder / name).read_bytes() == content
    assert not [path for path in done.folder.iterdir() if path.name.endswith((".part", ".tmp"))]


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["T=0"], ["Error: timesteps (T) must be a whole number of at least 1, got 0"]),
        (["T=2.5"], ["Error: timesteps (T) must be a whole number of at least 1, got 2.5"]),
        (["T=two"], ["Error: timesteps (T) must be a whole number of at least 1, got 'two'"]),
        (["pipeline=foo"], ["Could not find 'pipeline/foo'", "acp", "acp_paper", "baseline", "lcp"]),
        (["model=foo"], ["Could not find 'model/foo'", "resnet20", "vgg16_bn"]),
        (["pipeline.foo=1"], ["Could not override 'pipeline.foo'"]),
        (["foo=1"], ["Could not override 'foo'"]),
        (["+pipeline.foo=1"], ["foo"]),
        (["+trainer.foo=1"], ["foo"]),
        (["pipeline.rounding=up"], ["Error: rounding must be one of", "potential", "bias", "floor", "'up'"]),
        (["pipeline.precision=bf16-mixed"], ["Error: precision must be one of float32, tf32, bf16, got"]),
        (["pipeline.weights.iterations=0"], ["Error: weights.iterations must be a whole number"]),
        (["threshold.granularity=pixel"], ["granularity", "'pixel'"]),
        (["threshold=percentile", "threshold.percentile=101"], ["percentile", "101"]),
        (["seed=-1"], ["seed", "-1"]),
        (["model.width=-1"], ["width", "-1"]),
        (["model=torchvision", "model.name=resnet19"], ["resnet19", "resnet18"]),
        (["model=import"], ["Error: model.target is missing: ", "model.target=my_package.MyNet"]),
        (["model=import", "model.target=tests.own_nets.MyNt"], ["Error: unknown name in tests", "'MyNet'"]),
        (["data=folder", "data.root=/nonexistent"], ["Error: data.root: there is no folder /nonexistent"]),
        (["data.calibration_images=0"], ["Error: data.calibration_images must be", "at least 1, got 0"]),
        (["data.calibration_images=100000"], ["Error: data.calibration_images=100000, but there are only"]),
        (
            ["augment=null", "data.calibration_images=8"],
            ["Error: The step 'weights' has 8 images, fewer than its batch of 16", "weights.batch_size to 8"],
        ),
        (
            ["augment=null", "pipeline.potential.images=64"],
            ["Error: The step 'potential' wants 64 images and the calibration set has 32"],
        ),
        (["data=fashion_mnist", "data.root=/nonexistent"], ["Error: data.root", "dataset-fashion-mnist"]),
        (
            ["data=cifar10", "data.root=/nonexistent", "data.num_workers=0"],
            ["Error: data.root", "/nonexistent"],
        ),
        (["ckpt=missing.ckpt"], ["Error: There is no checkpoint 'missing.ckpt'. Check the path"]),
    ],
)
def test_wrong_settings(folder: Path, overrides: list[str], parts: list[str]) -> None:
    overrides = [*ACP, *overrides]
    if any(o.startswith("model") for o in overrides[len(ACP) :]):
        overrides = [o for o in overrides if o != "model.width=0.0625"]
    cache = folder.parent / "cache"
    done = run(folder, *overrides, cache=cache)
    assert_refused(done, *parts)
    assert not list(cache.glob("*"))  # said before the pretraining


def test_the_message_and_the_exit_status_of_the_program_itself(folder: Path) -> None:
    done = in_new_interpreter(folder, str(ROOT / "calibrate.py"), "T=0", f"hydra.run.dir={folder}")
    assert done.output == "Error: timesteps (T) must be a whole number of at least 1, got 0\n"
    assert_refused(done, "Error: ")


def test_the_checkpoint_of_another_model(calibrated: Finished, folder: Path) -> None:
    ann = calibrated.results["checkpoint"]
    done = run(folder, "model=resnet20", "model.width=4", "trainer=cpu", f"ckpt={ann}", cache=folder.parent)
    assert_refused(done, f"Error: {ann} holds the weights of another network", "set model")


def test_the_snn_of_other_data(calibrated: Finished, folder: Path) -> None:
    ckpt = calibrated.folder / "snn.ckpt"
    done = run(folder, "trainer=cpu", "data=cifar10", f"ckpt={ckpt}", cache=folder.parent)
    assert_refused(done, f"Error: The SNN of '{ckpt}' has in_channels=1, and cifar10 has 3", "set data")


def flipped(source: Path) -> bytes:
    """The file with one bit of its largest tensor changed."""
    content = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as records:
        largest = max(records.infolist(), key=lambda record: record.file_size)
    content[largest.header_offset + largest.file_size // 2 + 100] ^= 1
    return bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "text", "empty", "list"])
@pytest.mark.parametrize("kind", ["ann", "snn"])
def test_a_damaged_checkpoint(calibrated: Finished, folder: Path, damage: str, kind: str) -> None:
    source = Path(calibrated.results["checkpoint"]) if kind == "ann" else calibrated.folder / "snn.ckpt"
    ckpt = folder.parent / "damaged.ckpt"
    if damage == "list":
        torch.save([1, 2], ckpt)
    else:
        ckpt.write_bytes({"flipped": flipped(source), "text": b"hello", "empty": b""}[damage])
    done = run(folder, *MODEL, f"ckpt={ckpt}", cache=folder.parent)
    assert_refused(done, "Error: ", f"'{ckpt}'", "Name another")


def test_a_damaged_pretrained_ann(calibrated: Finished, folder: Path) -> None:
    cache = folder.parent / "cache"
    cache.mkdir()
    ann = cache / Path(calibrated.results["checkpoint"]).name
    ann.write_bytes(flipped(Path(calibrated.results["checkpoint"])))
    done = run(folder, *BASELINE, cache=cache)
    assert_refused(done, f"Error: the pretrained ANN kept at {ann} is damaged: delete it")


def test_an_ann_with_nan(calibrated: Finished, folder: Path) -> None:
    checkpoint = torch.load(calibrated.results["checkpoint"], weights_only=True)
    checkpoint["state_dict"]["net.features.3.weight"][0, 0, 0, 0] = float("nan")
    ckpt = folder.parent / "nan.ckpt"
    torch.save(checkpoint, ckpt)
    done = run(folder, *BASELINE, f"ckpt={ckpt}", cache=folder.parent)
    assert_refused(done, "Error: ", "NaN")


def test_a_full_disk_while_the_snn_is_saved(
    calibrated: Finished, cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = experiment.Experiment.save

    def without_space(self: experiment.Experiment, path: Path) -> None:
        with full_disk(20_000):
            save(self, path)

    monkeypatch.setattr(experiment.Experiment, "save", without_space)
    done = run(folder, *BASELINE, cache=cache)
    assert_refused(done, f"Error: Could not write '{folder / 'snn.ckpt'}'", "unchanged", "Free some space")


def test_a_full_disk_while_the_results_are_written(
    calibrated: Finished, cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = outputs.write_results

    def without_space(path: Path, results: dict) -> None:
        with full_disk(1000):
            write(path, results)

    monkeypatch.setattr(outputs, "write_results", without_space)
    (folder / "snn.ckpt").unlink()
    done = run(folder, *BASELINE, cache=cache)
    assert (folder / "snn.ckpt").stat().st_size > 20_000
    (folder / "snn.ckpt").write_bytes(KEPT["snn.ckpt"])
    assert_refused(done, f"Error: Could not write '{folder / 'results.json'}'", "Free some space")


def test_a_full_disk_while_a_stage_is_kept(calibrated: Finished, folder: Path) -> None:
    cache = folder.parent / "cache"
    cache.mkdir()
    shutil.copy(calibrated.results["checkpoint"], cache)
    with full_disk(50_000):
        done = run(folder, *BASELINE, cache=cache)
    assert_refused(done, "Error: Could not write", "partial", "Free some space")
    assert not list((cache / "partial").iterdir())


def test_a_full_disk_while_the_ann_is_kept(folder: Path) -> None:
    cache = folder.parent / "cache"
    with full_disk(50_000):
        done = run(folder, *BASELINE, "trainer.max_epochs=1", "data.train_images=64", cache=cache)
    assert_refused(done, "Error: The disk is full", "Free some space")
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
