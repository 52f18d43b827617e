"""What loggers get of a run's folder."""

import io
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from snn_lightning import log_report
from snn_lightning.errors import SettingsError
from tests.wandb_files import history, records, written

PIXELS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
FIGURES = ["figures/rates", "report/errors", "search"]
REPORT = ["figures/rates.json", "report.html", "report/errors.csv", "results.json", "search.csv"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run leaves, and what others have put beside it."""
    folder = tmp_path / "run"
    others = [".hydra/config.yaml", "csv/version_0/metrics.csv", "calibrate.log", "wandb/media/other.png"]
    for name in [*REPORT, "snn.ckpt", *others]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for name in FIGURES:
        Image.fromarray(PIXELS).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def wandb_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WandbLogger:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "own"))
    return WandbLogger(save_dir=tmp_path, offline=True)


def test_a_list_of_loggers(folder: Path, wandb_logger: WandbLogger, tmp_path: Path) -> None:
    tensorboard = TensorBoardLogger(tmp_path)
    before = sorted(folder.rglob("*"))
    log_report([tensorboard, CSVLogger(tmp_path), wandb_logger], folder)
    wandb_logger.experiment.finish()
    assert sorted(folder.rglob("*")) == before
    path = written(tmp_path)

    events = EventAccumulator(tensorboard.log_dir).Reload()
    assert sorted(events.Tags()["images"]) == FIGURES
    for name in FIGURES:
        (event,) = events.Images(name)
        assert np.array_equal(Image.open(io.BytesIO(event.encoded_image_string)), PIXELS)
    (text,) = events.Tensors("report/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert sorted(lines) == [f"- `{folder / name}`" for name in REPORT]
    (text,) = events.Tensors("snn/text_summary")
    assert text.tensor_proto.string_val[0].decode() == f"- `{folder / 'snn.ckpt'}`"

    rows = history(path)
    for name in FIGURES:
        (row,) = [row for row in rows if f"{name}.filenames" in row]
        assert row[f"{name}.captions"] == [name]
        (file,) = row[f"{name}.filenames"]
        assert np.array_equal(Image.open(path.parent / "files" / file), PIXELS)
    found = {record.type: record for record in records(path, "artifact")}
    assert {kind: record.name for kind, record in found.items()} == {
        kind: f"{kind}-{wandb_logger.version}" for kind in ("report", "snn")
    }
    files = {entry.path: entry.local_path for kind in found for entry in found[kind].manifest.contents}
    assert files == {name: str(folder / name) for name in [*REPORT, "snn.ckpt"]}
    assert [entry.path for entry in found["snn"].manifest.contents] == ["snn.ckpt"]


def test_a_logger_that_fails(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(TensorBoardLogger):
        """Has no place to write to."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Full, "experiment", property(fail))
    (folder / "report/errors.png").write_text("no picture")
    well = TensorBoardLogger(tmp_path)
    log_report([Full(tmp_path / "full"), well], folder)
    of_full, of_other = (record.message for record in caplog.records)
    unknown = "UnidentifiedImageError: cannot identify image file"
    assert of_full.startswith(f"Full hasn't got figure report/errors ({unknown}")
    assert (
        "figure figures/rates, figure search, report.html, report/errors.csv, figures/rates.json, "
        "results.json, search.csv, snn.ckpt (OSError: [Errno 28] No space left on device). "
        f"Nothing else is lost: the files are in '{folder}', and log_report(logger, folder) logs them later."
    ) in of_full
    assert of_other.startswith(f"TensorBoardLogger hasn't got figure report/errors ({unknown}")
    assert of_other.count("figure") == 1
    events = EventAccumulator(well.log_dir).Reload()
    assert sorted(events.Tags()["images"]) == ["figures/rates", "search"]
    assert set(events.Tags()["tensors"]) == {"report/text_summary", "snn/text_summary"}


def test_one_logger_and_a_folder_with_little(folder: Path, tmp_path: Path) -> None:
    little = tmp_path / "little"
    little.mkdir()
    (folder / "snn.ckpt").rename(little / "snn.ckpt")
    logger = TensorBoardLogger(tmp_path)
    log_report(logger, str(little))
    tags = EventAccumulator(logger.log_dir).Reload().Tags()
    assert (tags["images"], tags["tensors"]) == ([], ["snn/text_summary"])


@pytest.mark.parametrize("name", ["none", "empty", "file"])
def test_nothing_to_log(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=rf"nothing to log in '.*{name}': name the folder of a run"):
        log_report(CSVLogger(tmp_path), tmp_path / name)


def test_other_processes_log_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log_report(TensorBoardLogger(tmp_path), folder)
    assert not list(tmp_path.rglob("events.*"))


@pytest.mark.parametrize("wrong", ["csv", None, [True]])
def test_what_is_no_logger(wrong: object, folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"loggers must be those of a Trainer, trainer\.loggers, got "):
        log_report(wrong, folder)
