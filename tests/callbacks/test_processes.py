"""World size changes nothing: two real processes on CPU against one, started in every way there is."""

from pathlib import Path

import pytest
import torch

from snn_lightning.callbacks.shared_memory import available
from tests.calibration.support import largest_difference
from tests.callbacks.processes import PIPELINES, agree
from tests.processes import as_torchrun, finish, fork, free_port, start

SCRIPT = Path(__file__).with_name("processes.py")


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
    given = [as_torchrun(rank, nodes=2, port=port) for rank in range(2)]
    ended = finish(*(fork(SCRIPT, "quick", tmp_path, NODES="2", **variables) for variables in given))
    assert [status for status, _ in ended] == [0, 0], "\n".join(output for _, output in ended)
    first, second = (found["models"]["acp"][0] for found in results(tmp_path))
    assert largest_difference(first, second) == 0
    assert largest_difference(first, one["acp"][0]) < 1e-5
    assert [found["reductions in shared memory"] for found in results(tmp_path)] == [0, 0]


@pytest.mark.skipif(not available(), reason="processes share memory on Linux on x86-64 alone")
def test_processes_of_one_machine_reduce_in_the_memory_that_they_share(torchrun):
    assert [found["reductions in shared memory"] > 100 for found in torchrun[0]] == [True, True]


def test_lightnings_own_launcher(tmp_path, one):
    ((status, output),) = finish(fork(SCRIPT, "quick", tmp_path))
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
