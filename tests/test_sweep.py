"""Sweeps with -m, and the table of their results."""

import json
import runpy
import statistics
import sys
from pathlib import Path

import pytest

from tests.commands import BASELINE, MODEL, ROOT, Finished, in_new_process, run

REUSED = "Using the ANN pretrained earlier"
QUICK = ["trainer.max_epochs=1", "data.train_images=128", "data.calibration_images=32", "data.test_images=60"]


def results_below(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("*/results.json")]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("sweep")
    grid = ["pipeline=baseline,lcp", "T=2,4", "seed=0,1"]
    return run(folder, "-m", *MODEL, *QUICK, *grid, cache=folder / "cache")


def test_every_job_of_a_sweep_leaves_one_result(sweep: Finished) -> None:
    assert sweep.code == 0, sweep.output
    rows = results_below(sweep.folder)
    jobs = {(row["pipeline"], row["timesteps"], row["seed"]) for row in rows}
    assert len(rows) == 8
    assert jobs == {(p, t, s) for p in ("baseline", "lcp") for t in (2, 4) for s in (0, 1)}
    for row in rows:
        assert len(row["accuracy_over_time"]) == row["timesteps"]
    assert len(list(sweep.folder.glob("*/snn.ckpt"))) == 8


def test_a_sweep_trains_one_ann_for_each_seed(sweep: Finished) -> None:
    assert len(list((sweep.folder / "cache").glob("*.ckpt"))) == 2
    assert sweep.output.count("Pretraining") == 8
    assert sweep.output.count(REUSED) == 6
    anns = {(row["seed"], row["checkpoint"], row["ann_accuracy"]) for row in results_below(sweep.folder)}
    assert len(anns) == 2


def test_one_command_gathers_a_sweep(
    sweep: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["gather", str(sweep.folder)])
    monkeypatch.delitem(sys.modules, "snn_lightning.analysis.gather", raising=False)
    runpy.run_module("snn_lightning.analysis.gather", run_name="__main__")
    table = capsys.readouterr().out
    rows = results_below(sweep.folder)
    for pipeline in ("baseline", "lcp"):
        line = next(line for line in table.splitlines() if f" {pipeline} " in line)
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        expected = ["vgg16_bn", "digits", pipeline, "2"]
        for key, timesteps in (("ann_accuracy", 2), ("snn_accuracy", 2), ("snn_accuracy", 4)):
            chosen = [r[key] for r in rows if (r["pipeline"], r["timesteps"]) == (pipeline, timesteps)]
            assert len(chosen) == 2
            expected.append(f"{100 * statistics.mean(chosen):.2f} ± {100 * statistics.stdev(chosen):.2f}")
        assert cells == expected
    summary = json.loads((sweep.folder / "summary.json").read_text())
    assert [(row["model"], row["data"], row["pipeline"], row["seeds"]) for row in summary] == [
        ("vgg16_bn", "digits", "baseline", 2),
        ("vgg16_bn", "digits", "lcp", 2),
    ]
    assert [list(row["snn"]) for row in summary] == [["2", "4"]] * 2


def test_parallel_jobs_share_one_pretraining(tmp_path: Path) -> None:
    grid = ["pipeline=baseline,lcp", "T=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    folders = [f"cache_dir={tmp_path / 'cache'}", f"hydra.sweep.dir={tmp_path}"]
    done = in_new_process(tmp_path, str(ROOT / "calibrate.py"), "-m", *MODEL, *QUICK, *grid, *folders)
    assert done.code == 0, done.output
    assert {row["pipeline"] for row in results_below(tmp_path)} == {"baseline", "lcp"}
    assert len({(row["checkpoint"], row["ann_accuracy"]) for row in results_below(tmp_path)}) == 1
    assert len(list((tmp_path / "cache").glob("*.ckpt"))) == 1
    assert done.output.count("Pretraining") == 2
    assert done.output.count(REUSED) == 1


@pytest.mark.parametrize("setting", ["trainer.devices=2", "trainer.strategy=ddp", "trainer.num_nodes=2"])
def test_distributed_jobs_in_a_sweep_are_refused(tmp_path: Path, cache: Path, setting: str) -> None:
    done = run(tmp_path, "-m", *BASELINE, setting, cache=cache)
    assert done.code != 0
    assert "A sweep (-m) can't run distributed jobs" in done.output
    assert "run the jobs one by one without -m" in done.output
    assert "Pretraining" not in done.output


def test_a_job_that_fails_says_so_and_leaves_the_others_alone(
    calibrated: Finished, cache: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "-m", *BASELINE, "T=0,2", cache=cache)
    assert done.code != 0
    assert "This job failed: timesteps (T) must be a whole number of at least 1, got 0" in done.output
    assert [row["timesteps"] for row in results_below(tmp_path)] == [2]
