"""Programs in processes of their own, alone or several that wait for each other.

A new interpreter takes seconds to import what the programs need. Where its start isn't what is tested, a
process is forked instead from a server that has imported all that and done nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lightning_utilities.core.rank_zero import rank_zero_only

ROOT = Path(__file__).parents[1]
TIMEOUT = 150
"""Seconds that a test waits; processes that hang say where shortly before."""

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["snn_lightning.cli.jobs", "matplotlib.figure", "sklearn.datasets"])


class Process(Protocol):
    """What tests use of a `subprocess.Popen`, whose processes lead groups of their own."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def communicate(self) -> tuple[str, None]: ...


class Forked:
    """A process forked from the server that runs a Python file as the main program."""

    def __init__(self, script: Path, *arguments: str, folder: Path, environment: dict[str, str]) -> None:
        handle, self._output = tempfile.mkstemp()
        os.close(handle)
        # Only the server's own start sees it, before the first of its processes.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        command = [str(script), *arguments]
        self._process = SERVER.Process(target=_become, args=(command, folder, environment, self._output))
        self._process.start()
        self.pid = self._process.pid
        self._one_at_a_time = threading.Lock()

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        # The server tells the status once: of two threads that read it, one would be told 255.
        with self._one_at_a_time:
            return self._process.exitcode

    def output(self) -> str:
        """What it has printed so far."""
        return Path(self._output).read_text()

    def communicate(self) -> tuple[str, None]:
        while self.poll() is None:
            time.sleep(0.02)
        printed = self.output()
        os.unlink(self._output)
        return printed, None


def _become(command: list[str], folder: Path, environment: dict[str, str], output: str) -> None:
    """Be a new process for `python script arguments`, in a group of its own."""
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Lightning reads it when it is imported.
    rank_zero_only.rank = int(environment.get("RANK", environment.get("SLURM_PROCID", 0)))
    sys.argv[:] = command
    sys.path.insert(0, os.path.dirname(command[0]))
    runpy.run_path(command[0], run_name="__main__")


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what launchers add, for a process on one core."""
    launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK")
    inherited = {name: value for name, value in os.environ.items() if name not in launched}
    return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **changes}


def start(*command: object, **changes: str) -> subprocess.Popen[str]:
    """Start `python command`, in a process group of its own so that what is left of it can be ended."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def fork(script: Path, *arguments: object, folder: Path = ROOT, **changes: str) -> Forked:
    """Start `python script arguments` inside `folder`, in a process that has the imports behind it."""
    return Forked(script, *map(str, arguments), folder=folder, environment=environment(**changes))


def as_torchrun(rank: int, nodes: int = 1, *, port: int) -> dict[str, str]:
    """Return what torchrun tells one of two processes on `nodes` nodes."""
    local = 0 if nodes == 2 else rank
    numbers = {"RANK": rank, "LOCAL_RANK": local, "GROUP_RANK": rank - local, "WORLD_SIZE": 2}
    numbers |= {"LOCAL_WORLD_SIZE": 2 // nodes, "MASTER_PORT": port}
    found = {name: str(number) for name, number in numbers.items()}
    return {**found, "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "none"}


def free_port() -> int:
    """Return a port below those that the system gives to outgoing connections, which might take it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def finish(*processes: Process) -> list[tuple[int | None, str]]:
    """Return each process's exit status and output.

    When one fails the others, which may wait for it, have a moment to end; what takes too long is killed.
    """
    deadline = time.monotonic() + TIMEOUT
    with ThreadPoolExecutor(len(processes)) as readers:
        outputs = [readers.submit(process.communicate) for process in processes]
        while not all(output.done() for output in outputs) and time.monotonic() < deadline:
            if any(process.poll() for process in processes):
                deadline = min(deadline, time.monotonic() + 20)
            time.sleep(0.05)
        for process, output in zip(processes, outputs, strict=True):
            if not output.done():
                os.killpg(process.pid, signal.SIGKILL)
        return [
            (process.returncode, output.result()[0])
            for process, output in zip(processes, outputs, strict=True)
        ]
