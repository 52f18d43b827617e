"""Read what W&B has written offline: a `.wandb` file is a log in LevelDB's format, of protocol buffers."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record

FILE_HEADER, BLOCK = 7, 32768
PART_HEADER = struct.Struct("<IHB")
"""Checksum, length, and whether a part is whole, the first, in the middle or the last one."""

WHOLE, LAST = 1, 4


def written(folder: Path) -> Path:
    """End W&B's process, which writes to the last, and return the file of the one run below a folder."""
    wandb.teardown()
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return path


def records(path: Path, kind: str) -> list[Any]:
    """Return the records of a kind in a `.wandb` file: "history", "metric", "artifact"."""
    return [getattr(record, kind) for record in _all(path) if record.WhichOneof("record_type") == kind]


def history(path: Path) -> list[dict[str, Any]]:
    """Return what was logged, row by row."""
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in records(path, "history")
    ]


def _all(path: Path) -> Iterator[Record]:
    content, at, whole = path.read_bytes(), FILE_HEADER, b""
    while at + PART_HEADER.size <= len(content):
        if (left := BLOCK - at % BLOCK) < PART_HEADER.size:
            at += left
            continue
        _, length, part = PART_HEADER.unpack_from(content, at)
        at += PART_HEADER.size + length
        whole += content[at - length : at]
        if part in (WHOLE, LAST):
            yield Record.FromString(whole)
            whole = b""
