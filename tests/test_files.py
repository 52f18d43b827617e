import contextlib
import os
import random
from pathlib import Path

import pytest
import torch

from snn_lightning import files
from snn_lightning.errors import CheckpointError
from snn_lightning.files import fingerprint, read_checkpoint, replacing, save_checkpoint, write_atomically
from tests.commands import full_disk


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with full_disk(10_000), pytest.raises(CheckpointError) as raised:
        write_atomically(path, b"x" * 100_000)
    assert f"Could not write '{path}'" in str(raised.value)
    assert "What was there before is unchanged. Free some space" in str(raised.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failure_at_any_point_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, name, fail)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_of_several_processes_the_leader_alone_puts_the_file_in_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path, leader=False) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"old"
    with replacing(path, leader=True) as same:
        assert same == part
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as part:  # noqa: PT012
        part.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_two_writers_of_a_file_write_to_files_of_their_own(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as two:
        assert one != two
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert (tmp_path / "file").read_bytes() == b"1"


def test_a_fingerprint_is_the_start_of_the_sha_256() -> None:
    assert fingerprint([b"ab", memoryview(b"c")]) == "ba7816bf8f01cfea"


def test_a_folder_that_is_a_file_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(CheckpointError, match=r"Could not write .* choose another folder"):
        write_atomically(tmp_path / "file" / "inside", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint = {"weights": torch.randn(3, 4), "settings": {"steps": (1, 2), "name": "a", "none": None}}
    save_checkpoint(tmp_path / "c.ckpt", checkpoint)
    loaded = read_checkpoint(tmp_path / "c.ckpt")
    assert torch.equal(loaded["weights"], checkpoint["weights"])
    assert loaded["settings"] == checkpoint["settings"]


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint '.*nothing.ckpt'. Check the path"):
        read_checkpoint(tmp_path / "nothing.ckpt")
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        read_checkpoint(tmp_path)


def damaged(content: bytes, kind: str) -> bytes:
    middle = len(content) // 2
    return {
        "empty": b"",
        "text": b"hello, this is no checkpoint\n",
        "zeros": bytes(200),
        "noise": bytes(range(256)) * 4,
        "cut in the middle": content[:middle],
        "cut at the end": content[:-30],
        "overwritten": content[:100] + bytes(400) + content[500:],
    }[kind]


@pytest.mark.parametrize(
    "kind", ["empty", "text", "zeros", "noise", "cut in the middle", "cut at the end", "overwritten"]
)
def test_a_damaged_checkpoint_is_an_error_with_the_remedy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.ckpt"
    save_checkpoint(path, {"weights": torch.arange(100.0), "names": ["a"] * 20})
    path.write_bytes(damaged(path.read_bytes(), kind))
    with pytest.raises(CheckpointError, match=r"c.ckpt' can't be read .*damaged.*Name another one"):
        read_checkpoint(path)


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "c.ckpt", {"weights": torch.randn(30, 20), "settings": {"name": "relu" * 9}}
    save_checkpoint(path, checkpoint)
    content, generator = path.read_bytes(), random.Random(0)
    middle = content.index(checkpoint["weights"].numpy().tobytes()) + 1000
    harmless = 0
    for place in [middle, *generator.sample(range(len(content)), 400)]:
        changed = bytearray(content)
        changed[place] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        with contextlib.suppress(CheckpointError):
            loaded = read_checkpoint(path)
            harmless += 1
            assert place != middle
            assert torch.equal(loaded["weights"], checkpoint["weights"])
            assert loaded["settings"] == checkpoint["settings"]
    assert 0 < harmless < 200


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    checkpoint, path = {"weights": torch.arange(9.0)}, tmp_path / "c.ckpt"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(path)["weights"], checkpoint["weights"])
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(checkpoint, path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(read_checkpoint(path)["weights"], checkpoint["weights"])


class Anything:
    pass


def test_arbitrary_objects_are_not_loaded(tmp_path: Path) -> None:
    torch.save({"object": Anything()}, tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        read_checkpoint(tmp_path / "c.ckpt")


def test_a_tensor_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match="holds a Tensor, not a checkpoint"):
        read_checkpoint(tmp_path / "c.ckpt")
