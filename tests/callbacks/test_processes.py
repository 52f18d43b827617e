"""World size changes nothing: two real processes on CPU against one, started in every way there is."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.calibration.support import largest_difference
from tests.callbacks.processes import PIPELINES, TIMEOUT, agree

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("processes.py")


def free_port() -> int:
    """Return a port below those that the system gives to outgoing connections, which might take it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def start(*command: object, **environment: str) -> subprocess.Popen:
    """Start a process group of its own, so that what is left of it can be ended."""
    launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK")
    inherited = {name: value for name, value in os.environ.items() if name not in launched}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(*processes: subprocess.Popen) -> list[tuple[int, str]]:
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


def results(folder: Path) -> list[dict]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict:
    """What a single process finds."""
    return agree(tmp_path_factory.mktemp("one"), devices=1, names=list(PIPELINES))


@pytest.fixture(scope="module")
def torchrun(tmp_path_factory) -> tuple[list[dict], int, str]:
    """What two processes find under torchrun, and how that ended."""
    folder = tmp_path_factory.mktemp("two")
    port = f"--master-port={free_port()}"
    command = ("-m", "torch.distributed.run", "--nproc-per-node=2", port, SCRIPT, "everything", folder)
    ((status, output),) = finish(start(*command))
    assert (folder / "1.pt").exists(), output
    return results(folder), status, output


@pytest.fixture(scope="module")
def two(torchrun) -> list[dict]:
    """The models of the two processes."""
    return [found["models"] for found in torchrun[0]]


@pytest.fixture(scope="module")
def failed(torchrun) -> list[dict]:
    """The messages of failures on one process."""
    return [found["messages"] for found in torchrun[0]]


@pytest.mark.parametrize("name", [*PIPELINES, "whole"])
def test_two_processes_agree_with_one(name, one, two):
    parameters, errors = one[name]
    for other, other_errors in (results[name] for results in two):
        assert largest_difference(parameters, other) < 1e-5
        assert other_errors == pytest.approx(errors, rel=1e-5)


@pytest.mark.parametrize("name", [*PIPELINES, "whole"])
def test_all_processes_hold_the_same_bits(name, two):
    (first, first_errors), (second, second_errors) = (results[name] for results in two)
    assert largest_difference(first, second) == 0
    assert first_errors == second_errors


def test_the_pipelines_are_not_all_the_same(one):
    """What is compared depends on what was calibrated."""
    assert largest_difference(one["lcp"][0], one["lcp, odd number of images"][0]) > 1e-3


def test_two_nodes_of_one_process(tmp_path, one):
    port = free_port()
    nodes = [
        start(
            "-m",
            "torch.distributed.run",
            "--nnodes=2",
            "--nproc-per-node=1",
            f"--node-rank={rank}",
            "--master-addr=127.0.0.1",
            f"--master-port={port}",
            SCRIPT,
            "quick",
            tmp_path,
            NODES="2",
        )
        for rank in range(2)
    ]
    ended = finish(*nodes)
    assert [status for status, _ in ended] == [0, 0], "\n".join(output for _, output in ended)
    first, second = (found["models"]["acp"][0] for found in results(tmp_path))
    assert largest_difference(first, second) == 0
    assert largest_difference(first, one["acp"][0]) < 1e-5


def test_lightnings_own_launcher(tmp_path, one):
    ((status, output),) = finish(start(SCRIPT, "quick", tmp_path))
    assert status == 0, output
    first, second = (found["models"]["acp"][0] for found in results(tmp_path))
    assert largest_difference(first, second) == 0
    assert largest_difference(first, one["acp"][0]) < 1e-5


@pytest.mark.parametrize(
    ("name", "rank", "message"),
    [
        ("images", 1, "CalibrationError: The calibration images have NaN or infinite values"),
        ("step on 1", 1, "ZeroDivisionError: division by nothing"),
        ("step on 0", 0, "ZeroDivisionError: division by nothing"),
        ("sgd", 1, "MemoryError: out of memory"),
        ("logger", 0, "OSError: no space left for the log"),
    ],
)
def test_an_error_on_one_process_is_raised_on_all(name, rank, message, failed):
    assert failed[rank][name].startswith(message)
    other = f"ProcessFailure: Calibration stopped because process {rank} failed with {message}"
    assert failed[1 - rank][name].startswith(other)


def test_an_error_on_all_processes(failed):
    for messages in failed:
        assert messages["too few"].startswith(
            "CalibrationError: The calibration set has 1 images for 2 processes"
        )


def test_processes_can_go_on_after_an_error(failed):
    assert [messages["none"] for messages in failed] == ["fine", "fine"]


def test_an_uncaught_error_ends_all_processes(torchrun):
    _, status, output = torchrun
    assert status != 0
    message = "ZeroDivisionError: division by nothing"
    assert message in output
    assert f"ProcessFailure: Calibration stopped because process 1 failed with {message}" in output
