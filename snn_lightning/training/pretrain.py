"""Pretrained ANNs that are trained once and shared by all later runs with the same settings."""

import json
import logging
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from snn_lightning import files
from snn_lightning.errors import CheckpointError
from snn_lightning.files import read_checkpoint, replacing, writing
from snn_lightning.training.plain import plain

log = logging.getLogger(__name__)


class Pretrained(NamedTuple):
    """A finished checkpoint, and whether this call trained it.

    Example:
        >>> Pretrained(Path("ann.ckpt"), trained=True).path.name
        'ann.ckpt'
    """

    path: Path
    trained: bool


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that are the same for the same settings, whatever the order of their keys.

    Args:
        settings: everything the trained weights depend on: model, data, recipe, seed; plain values, nested.

    Raises:
        SettingsError: a value is not plain.

    Example:
        >>> fingerprint({"seed": 0, "model": "vgg16"}) == fingerprint({"model": "vgg16", "seed": 0})
        True
    """
    text = json.dumps(plain(settings), sort_keys=True, separators=(",", ":"))
    return files.fingerprint([text.encode()])


def pretrained_path(cache_dir: str | PathLike[str], key: str) -> Path:
    """Where the checkpoint with a fingerprint lies, or will lie.

    Example:
        >>> pretrained_path("cache", fingerprint({"seed": 0})).suffix
        '.ckpt'
    """
    return Path(cache_dir) / f"{key}.ckpt"


def load_or_train(
    cache_dir: str | PathLike[str],
    settings: Mapping[str, Any],
    train: Callable[[Path], None],
    *,
    leader: bool = True,
    agree: Callable[[bool], bool] = bool,
) -> Pretrained:
    """The checkpoint of an ANN with these settings, trained now unless an earlier run left it.

    Processes that ask for the same settings at the same time wait for the first one, then use its checkpoint.
    The checkpoint appears under its name only when it is complete; a training that fails leaves nothing.

    Args:
        cache_dir: folder of the checkpoints, made if missing.
        settings: see `fingerprint`; they are written beside the checkpoint for people to read.
        train: trains and saves the finished checkpoint under the path it is given (a temporary one).
        leader: False in all but the first process of one distributed training. Those neither wait nor
            keep a file: they train along if there is no checkpoint, and the leader keeps it.
        agree: called once by each process of one distributed training with whether it sees the checkpoint;
            returns what the leader sees, which may have waited for another training.

    Returns:
        The path of the checkpoint (read once, so it is intact), and whether it was trained now.

    Raises:
        CheckpointError: the folder can't be made, the kept checkpoint is damaged, or `train` saved none.

    Example:
        >>> from snn_lightning.files import save_checkpoint
        >>> def train(path):
        ...     save_checkpoint(path, {"state_dict": {}})
        >>> [load_or_train("cache", {"seed": 0}, train).trained for _ in range(2)]
        [True, False]
    """
    key = fingerprint(settings)
    path = pretrained_path(cache_dir, key)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not leader:
        if agree(path.is_file()):
            return _kept(path)
        with replacing(path, leader=False) as part:
            train(part)
        return Pretrained(path, True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that pretrains %s", path)
        lock.acquire()
    try:
        if agree(path.exists()):
            return _kept(path)
        with replacing(path, leader=True) as part:
            train(part)
            if not part.is_file():
                raise CheckpointError(
                    f"the pretraining of {path} ended without saving its checkpoint to {part}"
                )
            path.with_suffix(".json").write_text(json.dumps(plain(settings), indent=2, sort_keys=True) + "\n")
        return Pretrained(path, True)
    finally:
        lock.release()


def _kept(path: Path) -> Pretrained:
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"the pretrained ANN kept at {path} is damaged: delete it, and it is trained anew"
        ) from error
    return Pretrained(path, False)
