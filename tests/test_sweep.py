"""Sweeps with -m, and the table of their results."""

import json
import statistics
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose
from omegaconf import OmegaConf

from snn_lightning.report.compare.command import main as compare
from tests.commands import (
    BASELINE,
    MODEL,
    QUIET,
    ROOT,
    STAGES,
    Finished,
    in_new_interpreter,
    in_new_process,
    run,
)
from tests.processes import as_torchrun, finish, fork, free_port

REUSED = "Using the ANN pretrained earlier"
QUICK = ["trainer.max_epochs=1", "data.train_images=128", "data.calibration_images=32", "data.test_images=60"]


def results_below(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("*/results.json")]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("sweep")
    grid = ["pipeline=baseline,lcp", "T=2,4", "seed=0,1"]
    return run(folder, "-m", *MODEL, *QUICK, *QUIET, *grid, cache=folder / "cache")


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


def test_one_command_compares_the_runs_of_a_sweep(
    sweep: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "comparison"
    monkeypatch.setattr(sys, "argv", ["snn-compare", str(sweep.folder), "--output", str(output)])
    compare()
    table = capsys.readouterr().out
    rows = results_below(sweep.folder)
    for pipeline in ("baseline", "lcp"):
        line = next(line for line in table.splitlines() if f" {pipeline} " in line)
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        expected = [pipeline, "2"]
        for key, timesteps in (("ann_accuracy", 2), ("snn_accuracy", 2), ("snn_accuracy", 4)):
            chosen = [r[key] for r in rows if (r["pipeline"], r["timesteps"]) == (pipeline, timesteps)]
            assert len(chosen) == 2
            expected.append(f"{100 * statistics.mean(chosen):.2f} ± {100 * statistics.stdev(chosen):.2f}")
        assert cells == expected
    summary = json.loads((output / "summary.json").read_text())
    assert [(row["model"], row["data"], row["pipeline"], row["seeds"]) for row in summary] == [
        ("vgg16_bn", "digits", "baseline", {"2": 2, "4": 2}),
        ("vgg16_bn", "digits", "lcp", {"2": 2, "4": 2}),
    ]
    page = (output / "compare.html").read_text()
    assert "<h1>Comparison of 8 runs</h1>" in page
    errors = (output / "compare" / "errors_4.csv").read_text().splitlines()
    assert errors[0] == "site,baseline,lcp"
    assert len(errors) == 1 + STAGES
    assert len((output / "compare" / "over_time_4.csv").read_text().splitlines()) == 1 + 4


def test_parallel_jobs_share_one_pretraining(tmp_path: Path) -> None:
    grid = ["pipeline=baseline,lcp", "T=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    folders = [f"cache_dir={tmp_path / 'cache'}", f"hydra.sweep.dir={tmp_path}"]
    command = [str(ROOT / "calibrate.py"), "-m", *MODEL, *QUICK, *QUIET, *grid, *folders]
    done = in_new_interpreter(tmp_path, *command)
    assert done.code == 0, done.output
    assert {row["pipeline"] for row in results_below(tmp_path)} == {"baseline", "lcp"}
    assert len({(row["checkpoint"], row["ann_accuracy"]) for row in results_below(tmp_path)}) == 1
    assert len(list((tmp_path / "cache").glob("*.ckpt"))) == 1
    assert done.output.count("Pretraining") == 2
    assert done.output.count(REUSED) == 1


@pytest.mark.parametrize("setting", ["trainer.devices=2", "trainer.num_nodes=2"])
def test_jobs_whose_processes_lightning_would_start_are_refused(
    tmp_path: Path, cache: Path, setting: str
) -> None:
    done = run(tmp_path, "-m", *BASELINE, setting, cache=cache)
    assert done.code != 0
    assert "A sweep (-m) can't start the 2 processes of a job" in done.output
    assert "Start the sweep itself with torchrun or srun" in done.output
    assert "Pretraining" not in done.output


def test_one_sweep_on_two_processes(sweep: Finished, tmp_path: Path) -> None:
    """Both run every job, with Hydra's plain launcher (basic): others start processes, and are refused."""
    processes = ["trainer=ddp", "trainer.accelerator=cpu", f"cache_dir={sweep.folder / 'cache'}"]
    model = [override for override in MODEL if override != "trainer=cpu"]
    grid = ["pipeline=baseline", "T=2,0,4"]
    command = [ROOT / "calibrate.py", "-m", *model, *QUICK, *processes, *grid]
    port = free_port()
    given = [as_torchrun(rank, port=port) for rank in range(2)]
    ended = finish(*(fork(*command, folder=tmp_path, **variables) for variables in given))
    output = "".join(printed for _, printed in ended)
    # The job that fails on both is said once, and is no reason to leave out the next one.
    assert ended[0][0] != 0, output
    assert output.count("This job failed: timesteps (T) must be a whole number") == 1
    # One folder, whatever the time on each process; one voice.
    assert [path.name for path in tmp_path.iterdir()] == ["multirun"]
    (folder,) = tmp_path.glob("multirun/*/*")
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2", "multirun.yaml"]
    assert output.count(REUSED) == 2
    for job in ("0", "2"):  # T=2 and T=4 in both sweeps
        assert sorted(path.name for path in (folder / job).iterdir()) == [
            ".hydra",
            "calibrate.log",
            "csv",
            "report",
            "report.html",
            "results.json",
            "snn.ckpt",
        ]
        expected, found = (
            torch.load(parent / job / "snn.ckpt", weights_only=True)["state_dict"]
            for parent in (sweep.folder, folder)
        )
        assert found.keys() == expected.keys()
        for key, value in found.items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-5)


def test_processes_that_slurm_started_have_one_folder(sweep: Finished, tmp_path: Path) -> None:
    step = {"SLURM_JOB_NAME": "run", "SLURM_JOB_ID": "7", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}
    tasks = dict.fromkeys(("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"), "2")
    model = [override for override in MODEL if override != "trainer=cpu"]
    folders = [f"cache_dir={sweep.folder / 'cache'}", f"hydra.run.dir={tmp_path}/${{now:%f}}"]
    job = [
        *model,
        *QUICK,
        *QUIET,
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "pipeline=baseline",
        "T=2",
        *folders,
    ]
    port = str(free_port())
    processes = [
        fork(
            ROOT / "calibrate.py",
            *job,
            **step,
            **tasks,
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
            MASTER_PORT=port,
        )
        for rank in range(2)
    ]
    for (code, output), voice in zip(finish(*processes), (1, 0), strict=True):
        assert code == 0, output
        assert output.count(REUSED) == voice
    (folder,) = tmp_path.iterdir()
    assert (folder / "results.json").exists()


def test_a_job_that_fails_says_so_and_leaves_the_others_alone(
    calibrated: Finished, cache: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "-m", *BASELINE, "T=0,2", cache=cache)
    assert done.code != 0
    assert "This job failed: timesteps (T) must be a whole number of at least 1, got 0" in done.output
    assert [row["timesteps"] for row in results_below(tmp_path)] == [2]


OPTUNA = [
    *(override for override in BASELINE if override != "T=2"),
    "hydra/sweeper=optuna",
    "hydra.sweeper.direction=maximize",
    "hydra.sweeper.sampler.seed=0",
]


def best(done: Finished) -> dict:
    return OmegaConf.to_container(OmegaConf.load(done.folder / "optimization_results.yaml"))


def test_optuna_finds_the_best_of_two_trials(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    trials = ["hydra.sweeper.n_trials=2", "T=range(1,5)", "optimized_metric=accuracy_over_time.0"]
    done = run(tmp_path, "-m", *OPTUNA, *trials, cache=cache)
    assert done.code == 0, done.output
    rows = results_below(tmp_path)
    assert len(rows) == 2
    values = {row["timesteps"]: row["accuracy_over_time"][0] for row in rows}
    assert len(set(values.values())) == 2
    assert best(done)["best_value"] == max(values.values())
    assert values[int(best(done)["best_params"]["T"])] == max(values.values())


def test_the_metric_of_a_training(trained: Finished, cache: Path, tmp_path: Path) -> None:
    trials = [*OPTUNA[-3:], "hydra.sweeper.n_trials=1", "seed=choice(0)", "data.test_images=120"]
    done = run(tmp_path, "-m", *MODEL, *trials, cache=cache, script="train.py")
    assert done.code == 0, done.output
    assert best(done)["best_value"] == trained.results["ann_accuracy"]


def test_an_error_is_a_failed_trial(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    trials = ["hydra.sweeper.n_trials=3", "hydra.sweeper.max_failure_rate=1", "T=choice(0,2)"]
    done = run(tmp_path, "-m", *OPTUNA, *trials, "hydra/sweeper/sampler=random", cache=cache)
    assert done.code == 0, done.output
    rows = results_below(tmp_path)
    assert 0 < len(rows) < 3
    assert done.output.count("Failed experiment: timesteps (T) must be a whole number") == 3 - len(rows)
    assert best(done)["best_params"] == {"T": 2}
    assert best(done)["best_value"] == rows[0]["snn_accuracy"]


def test_submitit_starts_the_jobs_and_brings_their_metric_back(
    calibrated: Finished, cache: Path, tmp_path: Path
) -> None:
    folders = [f"cache_dir={cache}", f"hydra.sweep.dir={tmp_path}", "hydra/launcher=submitit_local"]
    jobs = [*OPTUNA, "hydra.sweeper.n_trials=1", "T=choice(2)"]
    done = in_new_process(ROOT / "calibrate.py", tmp_path, "-m", *jobs, *folders)
    assert done.code == 0, done.output
    (row,) = results_below(tmp_path)
    assert best(done)["best_value"] == row["snn_accuracy"]


def test_a_slurm_job_has_a_task_for_each_device(hydra: Path) -> None:
    overrides = ["hydra/launcher=slurm", "trainer.devices=4", "trainer.num_nodes=2"]
    launcher = compose("calibrate", overrides, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (2, 4, 4)
