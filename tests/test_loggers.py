"""What calibrate.py leaves with each logger."""

import csv
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tests.commands import BASELINE, SMALL, STAGES, Finished, run
from tests.wandb_files import history, records, written


def test_csv_is_the_default_and_has_a_row_for_each_stage(calibrated: Finished) -> None:
    (path,) = calibrated.folder.glob("csv/*/metrics.csv")
    rows = list(csv.DictReader(path.open()))
    stages = [row for row in rows if row["calibration/stage"]]
    assert [float(row["calibration/stage"]) for row in stages] == list(range(STAGES))
    assert [row["step"] for row in stages] == [str(index) for index in range(STAGES)]
    for row, record in zip(stages, calibrated.results["stages"], strict=True):
        assert row["calibration/name"] == record["name"]
        assert float(row["calibration/error"]) == pytest.approx(record["error"], rel=1e-5)
        for step in ("weights", "potential"):
            for moment in ("before", "after"):
                value = float(row[f"calibration/{step}_{moment}"])
                assert value == pytest.approx(record["steps"][step][moment], rel=1e-5)
        if record["kind"] == "neuron":
            assert float(row["calibration/threshold_max"]) == pytest.approx(record["threshold"][1])
            assert 0 < float(row["calibration/firing_rate"]) < 1
        assert float(row["calibration/seconds"]) > 0
    losses = [column for column in rows[0] if column.startswith("calibration/loss/")]
    assert len(losses) == STAGES
    assert all(sum(bool(row[column]) for row in rows) == 3 for column in losses)  # three iterations
    assert sum(bool(row["test/acc"]) for row in rows) == 3
    assert charts(calibrated.folder, "png") == charts(calibrated.folder, "csv")


def charts(folder: Path, kind: str) -> set[str]:
    """Return the names of the page's charts that have a file of that kind."""
    return {f"report/{path.stem}" for path in folder.glob(f"report/*.{kind}")}


def test_tensorboard_and_csv(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    both = ["logger=[csv,tensorboard]", "report=true", "figures=[firing_rates]"]
    done = run(tmp_path, *BASELINE, *both, cache=cache)
    assert done.code == 0, done.output
    (table,) = tmp_path.glob("csv/*/metrics.csv")
    (folder,) = tmp_path.glob("tensorboard/*")
    errors = [(record["index"], record["error"]) for record in done.results["stages"]]
    found = logged(folder, "scalars", "calibration/error")
    assert [(event.step, event.value) for event in found] == [
        (index, pytest.approx(error, rel=1e-5)) for index, error in errors
    ]
    rows = [row for row in csv.DictReader(table.open()) if row["calibration/stage"]]
    assert [(int(row["step"]), float(row["calibration/error"])) for row in rows] == errors
    assert len(logged(folder, "scalars", "test/acc")) == 3
    figures = {"figures/firing_rates", *charts(tmp_path, "csv")}
    assert {"report/errors", "report/accuracy_over_time", "report/firing_rates"} < figures
    assert names(folder, "images") == figures
    for name in figures:
        (image,) = logged(folder, "images", name)
        with Image.open(tmp_path / f"{name}.png") as file:
            assert (image.width, image.height) == file.size
    (text,) = logged(folder, "tensors", "report/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert {f"- `{tmp_path / name}`" for name in ("report.html", "results.json")} < set(lines)
    (text,) = logged(folder, "tensors", "snn/text_summary")
    assert text.tensor_proto.string_val[0].decode() == f"- `{tmp_path / 'snn.ckpt'}`"


def logged(folder: Path, kind: str, name: str) -> list[Any]:
    """Return what all files have of a name; of a folder TensorBoard may read them in another order."""
    found = []
    for path in folder.glob("events.*"):
        events = EventAccumulator(str(path)).Reload()
        if name in events.Tags()[kind]:
            found += getattr(events, kind.title())(name)
    return found


def names(folder: Path, kind: str) -> set[str]:
    """Return the names of a kind in all files."""
    return {
        name for path in folder.glob("events.*") for name in EventAccumulator(str(path)).Reload().Tags()[kind]
    }


def test_loggers_that_fail_at_the_end_cost_no_results(
    calibrated: Finished, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(SummaryWriter, "add_image", fail)
    monkeypatch.setattr(wandb, "run", object())
    monkeypatch.setattr(wandb, "finish", fail)
    done = run(tmp_path, *BASELINE, "logger=tensorboard", "figures=[firing_rates]", cache=cache)
    assert done.code == 0, done.output
    assert done.results["snn_accuracy"] == done.results["accuracy_over_time"][-1]
    assert (tmp_path / "snn.ckpt").exists()
    log = (tmp_path / "calibrate.log").read_text()
    reason = "(OSError: the network is down)"
    assert f"TensorBoardLogger hasn't got figure figures/firing_rates {reason}. Nothing else is lost" in log
    assert f"W&B could not end its run {reason}: it may lack what was logged last." in log
    (folder,) = tmp_path.glob("tensorboard/*")
    assert len(logged(folder, "tensors", "snn/text_summary")) == 1


def test_wandb_offline_has_a_run_for_each_job(
    calibrated: Finished, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "own"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    try:
        done = run(
            tmp_path, "-m", *SMALL, "report=false", "logger=wandb", "pipeline=baseline,lcp", cache=cache
        )
        assert done.code == 0, done.output
        assert wandb.run is None
    finally:
        wandb.teardown()
    for job in ("0", "1"):
        folder = tmp_path / job
        path = written(folder)
        results, rows = Finished(0, "", folder).results, history(path)
        stages = [row for row in rows if "calibration/stage" in row]
        assert [(row["calibration/stage"], row["calibration/name"]) for row in stages] == [
            (record["index"], record["name"]) for record in results["stages"]
        ]
        assert sum("test/acc" in row for row in rows) == 3
        files = [
            (record.type, entry.path, entry.local_path)
            for record in records(path, "artifact")
            for entry in record.manifest.contents
        ]
        assert files == [
            ("report", "results.json", str(folder / "results.json")),
            ("snn", "snn.ckpt", str(folder / "snn.ckpt")),
        ]
