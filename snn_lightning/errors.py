"""The errors users meet; every message names the thing and the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of an operating system that has no room for a file."""


class SNNLightningError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConversionError(SNNLightningError):
    """The ANN has something that can't be turned into a spiking network.

    Attributes:
        obstacles: every operator that stands in the way, where that is the reason.
    """

    def __init__(self, message: str, obstacles: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.obstacles = list(obstacles)


class CalibrationError(SNNLightningError):
    """Calibration can't go on: bad data, bad settings, or values that are not finite."""


class CheckpointError(SNNLightningError):
    """A checkpoint is missing, damaged, of another model, or could not be written."""


class SettingsError(SNNLightningError, ValueError):
    """A setting has a value that makes no sense; the message names the field."""


class ImageError(SNNLightningError):
    """An image file can't be read; the message names it.

    Args:
        message: what is wrong, alone or behind the traceback that a loader's worker puts in front of it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("ImageError: ")[2].strip())


LISTED = 100
"""So many known names at most are shown beside an unknown one."""


def unknown(field: str, value: object, known: Iterable[str]) -> str:
    """Say that a name is unknown, which one it may have been, and which there are."""
    known = sorted(known)
    # A name within a part may have been given with that of the part.
    inner = [name for name in known if str(value).endswith(f".{name}")]
    close = [max(inner, key=len)] if inner else get_close_matches(str(value), known, n=1)
    text = f"unknown {field}: {value!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    if len(known) > LISTED:
        return text
    return f"{text}{'' if close else ';'} There is: {', '.join(known) or 'none'}"


def few(names: Sequence[str], count: int = 5) -> str:
    """Return the first of many names, for a message."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def known_cause(error: BaseException | None) -> SNNLightningError | None:
    """Return the error with a message for the user that led to `error`, or None."""
    while error is not None:
        if isinstance(error, SNNLightningError):
            return error
        if isinstance(error, OSError) and error.errno in FULL:
            return CheckpointError(
                f"The disk is full ({error.strerror}); earlier results are unchanged. Free some space, or "
                "choose other folders with hydra.run.dir=... and cache_dir=..., then run the same "
                "command again."
            )
        error = error.__cause__
    return None
