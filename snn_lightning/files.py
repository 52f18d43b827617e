"""Write files whole or not at all, and read checkpoints with clear errors."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from snn_lightning.errors import CheckpointError


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`: afterwards the file is the new one whole, or what it was before.

    Raises:
        CheckpointError: the disk is full or the folder can't be written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replacing(path: Path, leader: bool | None = None) -> Iterator[Path]:
    """Give a path beside `path` to write to; when all went well that file takes the place of `path` at once.

    Args:
        path: the file.
        leader: None where this process writes by itself. Where several write one file together the name is
            the same in all of them, and only the leader, True in one of them, puts the file in its place.
    """
    own = f".{uuid4().hex[:8]}" if leader is None else ""
    part = path.with_name(f".{path.name}{own}.part")
    try:
        yield part
        if leader is not False:
            os.replace(part, path)
    finally:
        if leader is not False:
            with suppress(OSError):
                part.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what to do where the file `path` can't be written.

    Raises:
        CheckpointError: the disk is full or the folder can't be written.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"Could not write '{path}' ({error.strerror or error}). What was there before is unchanged. "
            "Free some space or choose another folder, then run the same command again."
        ) from error


def fingerprint(parts: Iterable[bytes | memoryview]) -> str:
    """Return sixteen hexadecimal digits that tell contents apart: the start of their SHA-256."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def save_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Serialise `checkpoint` and write it atomically."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: str | PathLike[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a checkpoint of plain values and tensors, if none of its bytes has changed since it was written.

    Raises:
        CheckpointError: the file is missing, damaged or holds arbitrary Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint '{path}'. Check the path, or leave it out to start afresh."
        )
    try:
        _compare_sums(path)
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # zipfile and torch.load raise a different type for each kind of damage
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            reason = "torch.load refuses it"  # its own text advises to run code from the file
        raise CheckpointError(
            f"The checkpoint '{path}' can't be read ({reason}): it is damaged, or holds more than tensors "
            "and plain values, such as a whole model or settings of a class. Name another one, or save the "
            "model's state_dict()."
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"'{path}' holds a {type(checkpoint).__name__}, not a checkpoint. Name another file."
        )
    return checkpoint


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's numbers, on any device and in any memory format, in the order of its indices."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def check_sums(path: str | PathLike[str]) -> None:
    """Check that none of a checkpoint's bytes has changed since it was written.

    Raises:
        CheckpointError: one has.
    """
    try:
        _compare_sums(Path(path))
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint '{path}' is damaged ({error}). Take another copy, or write it anew."
        ) from error


def _compare_sums(path: Path) -> None:
    """Compare each record with its CRC-32, which `torch.save` writes and `torch.load` does not look at.

    Files of torch's old format have none, and those written under `set_crc32_options(False)` have zeros.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
        with zipfile.ZipFile(file) as records:
            if any(record.CRC for record in records.infolist()) and (name := records.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of its record {name} differs")
