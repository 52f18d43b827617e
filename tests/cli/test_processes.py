"""Several processes do the jobs of one Hydra: here as threads, in tests/test_sweep.py under torchrun."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch.distributed import HashStore

from snn_lightning.cli.experiment import Experiment
from snn_lightning.cli.processes import Job, Leader, Processes, launched
from snn_lightning.errors import SettingsError
from tests.composing import composed

SWEEP = "hydra.mode=MULTIRUN"


def both(lead: Callable[[Processes], object], job: Job) -> list[Processes]:
    """Let one thread lead and another follow."""
    store = HashStore()
    first, second = pair = [Processes(store, rank, 2) for rank in range(2)]

    def leading() -> None:
        with first.leading():
            lead(first)

    with ThreadPoolExecutor(2) as pool:
        for part in (pool.submit(leading), pool.submit(second.follow, job)):
            part.result(timeout=20)
    return pair


def test_all_processes_run_the_jobs_of_the_first_until_it_ends(hydra: Path) -> None:
    seen: list[tuple[int, str]] = []

    def job(config: DictConfig) -> float:
        seen.append((config.T, HydraConfig.get().runtime.output_dir))
        return config.T / 2

    metrics: list[float | None] = []

    def lead(group: Processes) -> None:
        leader = Leader(job, group)
        metrics.extend(leader(composed("calibrate", hydra / str(T), f"T={T}", SWEEP)) for T in (4, 8))

    both(lead, job)
    assert metrics == [2, 4]
    assert sorted(seen) == [(T, str(hydra / str(T))) for T in (4, 4, 8, 8)]


def test_they_end_when_the_first_stops_before_any_job() -> None:
    def stop(group: Processes) -> None:
        raise SystemExit("a wrong setting")

    with pytest.raises(SystemExit, match="a wrong setting"):
        both(stop, pytest.fail)


def test_the_first_process_decides(hydra: Path) -> None:
    """A second question of the same job, and one of another job, are answered anew."""
    store = HashStore()
    first, second = (Processes(store, rank, 2) for rank in range(2))
    config = composed("calibrate", hydra, SWEEP)
    assert [first.agree(True), first.agree(False)] == [True, False]
    assert [second.agree(False), second.agree(True)] == [True, False]
    first.together(lambda config: float(first.agree(False)), config)
    assert second.together(lambda config: float(second.agree(True)), config) == 0


def test_a_job_that_fails_everywhere_is_an_error_and_the_sweep_goes_on(hydra: Path) -> None:
    def job(config: DictConfig) -> float:
        if config.T == 4:
            raise SettingsError("no such T")
        return 1.0

    def lead(group: Processes) -> None:
        with pytest.raises(SettingsError, match="no such T"):
            group.together(job, composed("calibrate", hydra, "T=4", SWEEP))
        assert group.together(job, composed("calibrate", hydra, "T=8", SWEEP)) == 1

    assert [group.jobs for group in both(lead, job)] == [2, 2]


def fails(config: DictConfig) -> float:
    raise OSError("no space left")


def test_a_job_that_fails_on_one_process_alone_is_an_error_if_the_others_leave_it(hydra: Path) -> None:
    def lead(group: Processes) -> None:
        with pytest.raises(OSError, match="no space left"):
            group.together(fails, composed("calibrate", hydra, SWEEP))

    assert [group.jobs for group in both(lead, lambda config: 1.0)] == [1, 1]


def test_it_ends_the_sweep_if_the_others_wait_in_it(hydra: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = Event()

    def lead(group: Processes) -> None:
        group.patience = timedelta(seconds=0.1)
        try:
            group.together(fails, composed("calibrate", hydra, SWEEP))
        finally:
            released.set()

    with pytest.raises(SystemExit, match="job 0 failed on process 0 while others wait in it"):
        both(lead, lambda config: float(released.wait(20)))
    assert "OSError: no space left" in capsys.readouterr().err


def test_a_launcher_with_processes_of_its_own_is_refused(hydra: Path) -> None:
    leader = Leader(lambda config: 1.0, Processes(HashStore(), 0, 2))
    taken = pickle.loads(pickle.dumps(leader))
    with pytest.raises(SettingsError, match=r"hydra/launcher=joblib starts processes .* leave it out"):
        taken(composed("calibrate", hydra, "hydra/launcher=joblib"))


@pytest.mark.parametrize(("devices", "mode"), [(1, "RUN"), (3, "MULTIRUN")])
def test_a_trainer_for_other_processes_than_there_are_is_refused(
    hydra: Path, monkeypatch: pytest.MonkeyPatch, devices: int, mode: str
) -> None:
    environment = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    overrides = ["model=resnet20", "model.width=4", "trainer.accelerator=cpu", "logger=none"]
    config = composed("calibrate", hydra, *overrides, f"trainer.devices={devices}", f"hydra.mode={mode}")
    with pytest.raises(SettingsError, match=f"2 processes were started, and the Trainer is set to {devices}"):
        Experiment.compose(config)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 1),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 1),  # Lightning's own children
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4"}, 4),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "run"}, 1),  # sbatch without srun
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "run", "SLURM_STEP_NUM_TASKS": "4"}, 4),
        ({"SLURM_JOB_NAME": "bash", "SLURM_STEP_NUM_TASKS": "4"}, 1),
    ],
)
def test_processes_are_counted_that_torchrun_or_srun_started(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], count: int
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_NAME", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == count
