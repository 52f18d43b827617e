"""What a calibration tells the Trainer's loggers."""

import csv
import io
import math
from contextlib import redirect_stderr, redirect_stdout

import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from snn_lightning import CalibrationCallback
from tests.callbacks.modules import QUICK, Classifier, Data, make_trainer


def columns(path) -> dict[str, list[float]]:
    """Return the numbers of each column of a csv file, without the empty ones."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


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


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    make_trainer(tmp_path, CalibrationCallback(QUICK), logger=logger).test(
        Classifier(), datamodule=Data(), verbose=False
    )
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert [event.value for event in events.Scalars("calibration/stage")] == [0, 1, 2]
    assert len(events.Scalars("calibration/loss/readout_head")) == 4


def test_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    make_trainer(tmp_path, CalibrationCallback(QUICK), logger=logger).test(
        Classifier(), datamodule=Data(), verbose=False
    )
    assert logger.experiment.summary["calibration/stage"] == 2
    logger.experiment.finish()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


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
