"""What a calibration tells the Trainer's loggers."""

import csv
import io
import math
from contextlib import redirect_stderr, redirect_stdout, suppress

import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from snn_lightning import LCP, CalibrationCallback
from tests.callbacks.modules import QUICK, Classifier, Data, make_trainer
from tests.wandb_files import history, records, written


def columns(path) -> dict[str, list[float]]:
    """Return the numbers of each column of a csv file, without the empty ones."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = rows[0].keys() - {"calibration/name"}
    return {name: [float(row[name]) for row in rows if row[name]] for name in numbers}


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_csv(verb, tmp_path):
    module, callback = Classifier(), CalibrationCallback(QUICK)
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=3)
    trainer = make_trainer(tmp_path, callback, logger=logger, log_every_n_steps=1)
    getattr(trainer, verb)(module, datamodule=Data())
    found = columns(tmp_path / "lightning_logs" / "version_0" / "metrics.csv")

    def expected(get):
        values = [get(record) for record in callback.records]
        return pytest.approx([value for value in values if value is not None and not math.isnan(value)])

    assert found["calibration/stage"] == [0, 1, 2]
    assert found["calibration/error"] == expected(lambda r: r["error"])
    assert found["calibration/seconds"] == expected(lambda r: r["seconds"])
    assert found["calibration/firing_rate"] == expected(lambda r: r["firing_rate"])
    assert len(found["calibration/firing_rate"]) == 2
    for index, bound in enumerate(("min", "max")):
        thresholds = expected(lambda r, i=index: r["threshold"] and r["threshold"][i])
        assert found[f"calibration/threshold_{bound}"] == thresholds
    for step in ("threshold", "weights", "potential"):
        for when in ("before", "after"):
            numbers = expected(lambda r, s=step, w=when: r["steps"].get(s, {}).get(w))
            assert found[f"calibration/{step}_{when}"] == numbers
    for record in callback.records:
        losses = [value for name, value in record["steps"]["weights"].items() if name.startswith("loss_")]
        assert found[f"calibration/loss/{record['name']}"] == pytest.approx(losses)
        assert len(losses) == 4
    assert found["calibration/iteration"] == [1, 2, 3, 4] * 3
    assert len(found.get("loss", [])) == (3 if verb == "fit" else 0)


def test_csv_has_the_axis_in_its_steps(tmp_path):
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=2)
    trainer = make_trainer(tmp_path, callback := CalibrationCallback(QUICK), logger=logger, max_epochs=2)
    trainer.fit(Classifier(), datamodule=Data())
    with open(tmp_path / "lightning_logs" / "version_0" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    stages = [row for row in rows if row["calibration/stage"]]
    assert [row["calibration/name"] for row in stages] == [record["name"] for record in callback.records]
    assert [row["step"] for row in stages] == ["0", "1", "2"]
    assert [row["step"] for row in rows if row["calibration/iteration"]] == ["1", "2", "3", "4"] * 3
    assert [(row["epoch"], row["step"]) for row in rows if row["error"]] == [("0", "2"), ("1", "5")]


def test_stages_that_an_earlier_run_has_finished_are_logged_too(tmp_path):
    class Stop(DummyLogger):
        def log_metrics(self, metrics, step):
            if metrics.get("calibration/stage") == 1.0:
                raise OSError("no space left")

    class Note(DummyLogger):
        def log_metrics(self, metrics, step):
            if "calibration/stage" in metrics:
                noted.append((step, metrics["calibration/error"]))

    noted, callback = [], CalibrationCallback(LCP(3), partial=tmp_path)
    for logger in (Stop(), Note()):
        with suppress(OSError):
            make_trainer(tmp_path, callback, logger=logger).test(Classifier(), datamodule=Data())
    assert noted == [(record["index"], record["error"]) for record in callback.records]
    assert len(noted) == 3


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    trainer = make_trainer(tmp_path, CalibrationCallback(QUICK), logger=logger, log_every_n_steps=1)
    trainer.fit(Classifier(), datamodule=Data())
    events = EventAccumulator(logger.log_dir).Reload()
    steps = {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert steps["loss"] == [0, 1, 2]
    assert steps["calibration/stage"] == steps["calibration/error"] == [0, 1, 2]
    assert steps["calibration/firing_rate"] == [0, 1]
    assert steps["calibration/loss/readout_head"] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("calibration/stage")] == [0, 1, 2]
    names = events.Tensors("calibration/name/text_summary")
    assert [(event.step, event.tensor_proto.string_val[0]) for event in names][2] == (2, b"readout_head")


@pytest.mark.parametrize("prefix", ["", "mine"])
def test_wandb_offline(prefix, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    logger = WandbLogger(save_dir=tmp_path, offline=True, prefix=prefix)
    callback = CalibrationCallback(QUICK)
    make_trainer(tmp_path, callback, logger=logger, log_every_n_steps=1).fit(Classifier(), datamodule=Data())
    logger.experiment.finish()
    path = written(tmp_path)
    start = f"{prefix}-calibration" if prefix else "calibration"
    over = {metric.name: metric.step_metric for metric in records(path, "metric")}
    assert over[f"{start}/error"] == over[f"{start}/name"] == f"{start}/stage"
    assert over[f"{start}/loss/readout_head"] == f"{start}/iteration"
    assert over[f"{start}/stage"] == over[f"{start}/iteration"] == ""
    rows = history(path)
    stages = [row for row in rows if f"{start}/stage" in row]
    assert [row[f"{start}/stage"] for row in stages] == [0, 1, 2]
    assert [row[f"{start}/error"] for row in stages] == [record["error"] for record in callback.records]
    assert [row[f"{start}/name"] for row in stages] == [record["name"] for record in callback.records]
    assert [row[f"{start}/iteration"] for row in rows if f"{start}/iteration" in row] == [1, 2, 3, 4] * 3
    # Training's axis is in the rows of training alone.
    trained = [row for row in rows if "trainer/global_step" in row]
    assert [row["trainer/global_step"] for row in trained if any("loss" in key for key in row)] == [0, 1, 2]
    assert not any("calibration" in key for row in trained for key in row)


@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar, None])
def test_progress_is_shown_where_the_trainer_shows_it(bar, tmp_path):
    callbacks = [CalibrationCallback(QUICK), *([bar()] if bar else [])]
    trainer = make_trainer(tmp_path, *callbacks, enable_progress_bar=bar is not None)
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        trainer.fit(Classifier(), datamodule=Data())
    shown = [line for line in output.getvalue().splitlines() if "potential" in line]
    assert len(shown) == (3 if bar else 0)
    assert all(line.startswith(f"[  {number}/3]") for number, line in enumerate(shown, 1))
