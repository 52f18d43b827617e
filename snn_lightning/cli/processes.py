"""Several processes that torchrun or SLURM started: the first one runs Hydra, the others do its jobs with it.

Were Hydra to run on every process, each would have its own time in the name of the sweep's folder, its own
random numbers in the sampler, and its own files to write.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig
from torch.distributed import DistStoreError, PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from snn_lightning.errors import SettingsError

Job = Callable[[DictConfig], float | None]

FOREVER = timedelta(days=365)
"""For waits that end when the process waited for ends, since the store ends with it or with its torchrun."""
PATIENCE = timedelta(minutes=1)


def launched() -> int:
    """Return how many processes torchrun or SLURM's `srun` started, this one among them; 1 without them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):  # for Lightning too a shell, and no job
        return 1
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))


class Processes:
    """The processes of a program, which tell each other things through a store of keys and values.

    Args:
        store: the same one for all.
        rank: this process.
        size: number of processes.
        patience: how long a process whose job has failed waits for the others to leave that job.
    """

    def __init__(self, store: Store, rank: int, size: int, patience: timedelta = PATIENCE) -> None:
        self.store, self.rank, self.size, self.patience = store, rank, size, patience
        self.jobs = self.questions = 0

    def agree(self, value: bool) -> bool:
        """Return the first process's value, however long that takes."""
        self.questions += 1
        key = f"value {self.jobs} {self.questions}"
        if self.rank == 0:
            self._put(key, value)
            return value
        return bool(self._take(key))

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """On the first process: the others take part in every `together` within, and end after it."""
        try:
            yield
        finally:
            self._put(f"job {self.jobs}", None)
            self._wait("end", timedelta(seconds=10))  # the store may be in this process

    def follow(self, job: Job) -> None:
        """On the others: run what the first process runs, until it ends; it speaks for all."""
        setup_globals()
        logging.getLogger().addHandler(logging.NullHandler())
        while (message := self._take(f"job {self.jobs}")) is not None:
            config, settings, folder = message
            HydraConfig.instance().cfg = settings
            with contextlib.chdir(folder), contextlib.suppress(Exception):
                self.together(job, config)
        self._put(f"end {self.rank}", True)

    def together(self, job: Job, config: DictConfig) -> float | None:
        """Run a job on all processes.

        Raises:
            SystemExit: a job of a sweep failed here, while others wait in it for this process.
        """
        number = self.jobs
        if self.rank == 0:
            self._put(f"job {number}", (config, HydraConfig.instance().cfg, os.getcwd()))
        self.jobs, self.questions = number + 1, 0
        try:
            metric = job(config)
        except Exception as error:
            self._put(f"left {number} {self.rank}", True)
            if HydraConfig.get().mode == RunMode.MULTIRUN and not self._wait(f"left {number}", self.patience):
                traceback.print_exception(error)
                sys.exit(
                    f"Error: job {number} failed on process {self.rank} while others wait in it for that "
                    "process: the sweep can't go on. Start it again with what it has not done."
                )
            raise
        self._put(f"left {number} {self.rank}", True)
        return metric

    def _put(self, key: str, value: Any) -> None:
        self.store.set(key, pickle.dumps(value))  # type: ignore[arg-type]  # it takes bytes too

    def _take(self, key: str) -> Any:
        self.store.wait([key], FOREVER)
        return pickle.loads(self.store.get(key))

    def _wait(self, key: str, patience: timedelta) -> bool:
        """Wait for the keys of all other processes; return False if one is still missing in the end."""
        try:
            self.store.wait([f"{key} {rank}" for rank in range(self.size) if rank != self.rank], patience)
        except DistStoreError:
            return False
        return True


class Leader:
    """The job as Hydra on the first process sees it: it takes all processes along."""

    def __init__(self, job: Job, processes: Processes) -> None:
        self.job, self.processes = job, processes
        functools.update_wrapper(self, job)  # Hydra names its files after the job's module

    def __call__(self, config: DictConfig) -> float | None:
        """Run the job on all processes."""
        return self.processes.together(self.job, config)

    def __reduce__(self) -> tuple[Any, ...]:
        # This is what a launcher such as joblib takes to a process of its own.
        return functools.partial, (_refuse,)


def _refuse(config: DictConfig) -> float | None:
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    raise SettingsError(
        f"hydra/launcher={launcher} starts processes for its jobs, and this sweep has its processes already: "
        "leave it out (hydra/launcher=basic), or start the sweep without torchrun and srun."
    )


@functools.cache
def processes() -> Processes | None:
    """Return the processes that torchrun or SLURM started; None if there is one."""
    if launched() == 1:
        return None
    from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    environment = TorchElasticEnvironment() if TorchElasticEnvironment.detect() else SLURMEnvironment()
    rank, size = environment.global_rank(), environment.world_size()
    # Where the process group will meet too; the server there has room for both.
    url = f"tcp://{environment.main_address}:{environment.main_port}"
    store, _, _ = next(rendezvous(url, rank, size))
    return Processes(PrefixStore("snn_lightning", store), rank, size)
