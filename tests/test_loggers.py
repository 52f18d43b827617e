"""What calibrate.py leaves with each logger."""

import csv
from pathlib import Path

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import BASELINE, SMALL, STAGES, Finished, run


def test_csv_is_the_default_and_has_a_row_for_each_stage(calibrated: Finished) -> None:
    (path,) = calibrated.folder.glob("csv/*/metrics.csv")
    rows = list(csv.DictReader(path.open()))
    stages = [row for row in rows if row["calibration/stage"]]
    assert [float(row["calibration/stage"]) for row in stages] == list(range(STAGES))
    for row, record in zip(stages, calibrated.results["stages"], strict=True):
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


def test_tensorboard(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *BASELINE, "logger=tensorboard", cache=cache)
    assert done.code == 0, done.output
    assert not list(tmp_path.glob("csv"))
    (folder,) = tmp_path.glob("tensorboard/*")
    errors = logged(folder, "calibration/error")
    assert errors == pytest.approx([record["error"] for record in done.results["stages"]], rel=1e-5)
    assert len(logged(folder, "test/acc")) == 3


def logged(folder: Path, name: str) -> list[float]:
    """Return the values of a name in all files; of a folder TensorBoard may read them in another order."""
    values = []
    for path in folder.glob("events.*"):
        events = EventAccumulator(str(path)).Reload()
        if name in events.Tags()["scalars"]:
            values += [event.value for event in events.Scalars(name)]
    return values


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
        (path,) = (tmp_path / job).glob("wandb/offline-run-*/*.wandb")
        content = path.read_bytes()
        assert b"calibration/error" in content
        assert b"test/acc" in content
