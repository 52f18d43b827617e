"""Memory that processes of one machine share, for reductions."""

import errno
import os
import platform
import random
import time
from pathlib import Path

import pytest
import torch

from snn_lightning.calibration.walk.communicator import ProcessFailure
from snn_lightning.callbacks import shared_memory
from snn_lightning.callbacks.shared_memory import SLOT, SharedMemory, available, create
from tests.processes import SERVER

TURNS = 60
pytestmark = pytest.mark.skipif(not available(), reason="processes share memory on Linux on x86-64 alone")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    return tmp_path


def values(rank: int, turn: int) -> torch.Tensor:
    """What a process adds in a turn: numbers of another type, shape and size in each."""
    generator = torch.Generator().manual_seed(1000 * turn + rank)
    shape = [(), (3,), (7, 5, 2), (0,), (SLOT // 8,)][turn % 5]
    dtype = [torch.float32, torch.float64, torch.int64][turn % 3]
    return torch.randint(-999, 999, shape, generator=generator).to(dtype)


def add_up(path: Path, rank: int, world_size: int, output: Path) -> None:
    """Reduce in many turns, at some of which this process comes late."""
    shared, order = SharedMemory(path, rank, world_size), random.Random(rank)
    wrong = []
    for turn in range(TURNS):
        if order.random() < 0.05:
            time.sleep(order.choice([0.001, 0.03]))
        combine = [torch.add, torch.maximum][turn % 2]
        found = shared.reduce(values(rank, turn), combine)
        everyone = torch.stack([values(other, turn) for other in range(world_size)])
        expected = everyone.sum(0) if combine is torch.add else everyone.amax(0)
        if found.dtype != expected.dtype or not torch.equal(found, expected):
            wrong.append(turn)
    output.write_text(f"wrong in turns {wrong}")


def miss_one(path: Path, rank: int, output: Path, ends: bool) -> None:
    """Wait in process 0 for process 1, which ends or goes on without."""
    shared = SharedMemory(path, rank, 2, patience=shared_memory.LOOK)
    shared.reduce(torch.ones(1), torch.add)
    if rank == 1:
        time.sleep(0 if ends else 3 * shared_memory.LOOK)
        os._exit(0)
    try:
        shared.reduce(torch.ones(1), torch.add)
    except ProcessFailure as error:
        output.write_text(str(error))


def differ(path: Path, rank: int, output: Path, dtype: torch.dtype, count: int) -> None:
    """Add up other numbers in process 1 than in process 0, and the same ones afterwards."""
    shared = SharedMemory(path, rank, 2)
    try:
        shared.reduce(torch.ones(count, dtype=dtype) if rank else torch.ones(4), torch.add)
    except ProcessFailure as error:
        output.with_name(f"{rank}").write_text(f"{error} {shared.reduce(torch.ones(1), torch.add).item()}")


def in_processes(target, *arguments) -> None:
    started = [SERVER.Process(target=target, args=given) for given in arguments]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0


def test_all_get_what_all_have_given(folder):
    path = create(3)
    outputs = [folder / f"output {rank}" for rank in range(3)]
    in_processes(add_up, *((path, rank, 3, output) for rank, output in enumerate(outputs)))
    assert [output.read_text() for output in outputs] == ["wrong in turns []"] * 3


@pytest.mark.parametrize(
    ("ends", "why"),
    [(True, "has ended. Its own output says why"), (False, "runs, but has not come in 0 minutes")],
)
def test_nobody_waits_for_ever(folder, ends, why):
    path = create(2)
    in_processes(miss_one, *((path, rank, folder / "output", ends) for rank in range(2)))
    assert (folder / "output").read_text().startswith(f"Calibration stopped because process 1 {why}")


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 3), (torch.float64, 4)])
def test_nobody_adds_what_does_not_belong_together(folder, dtype, count):
    path = create(2)
    in_processes(differ, *((path, rank, folder / "output", dtype, count) for rank in range(2)))
    for rank in range(2):
        said = (folder / f"{rank}").read_text()
        assert said.startswith(f"Calibration stopped because process {1 - rank} adds up something else here")
        assert said.endswith(" 2.0")


def test_large_tensors_and_those_elsewhere_are_left_to_others():
    shared = SharedMemory(create(2), 0, 2)
    shared.close()
    assert shared.takes(torch.zeros(SLOT // 4))
    assert not shared.takes(torch.zeros(SLOT // 4 + 1))
    assert not shared.takes(torch.zeros(1, device="meta"))


def test_nothing_is_shared_where_it_does_not_work(folder, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert create(2) is None
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "aarch64")
        assert create(2) is None
    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "FOLDER", folder / "none")
        assert create(2) is None
    assert list(folder.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "from_file", full)
        with pytest.raises(OSError, match="No space left"):
            SharedMemory(create(1), 0, 1)
        next(folder.iterdir()).unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(folder / "on another machine", 1, 2)
    assert list(folder.iterdir()) == []
