"""What kind of images networks read: their size, channels and normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.graph.parts import device_of
from snn_lightning.settings import check_whole, is_number
from snn_lightning.synthesis.files import check_channels
from snn_lightning.synthesis.generate import Source


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width in pixels.

    Args:
        size: both, or the side of a square.

    Raises:
        SettingsError: it is neither.

    Example:
        >>> sides(8), sides((8, 10))
        ((8, 8), (8, 10))
    """
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2:
        raise SettingsError(f"size must be a side or (height, width), got {size!r}")
    for side in sides:
        check_whole("size", side)
    return sides[0], sides[1]


def per_channel(name: str, value: float | Sequence[float]) -> list[float]:
    """Return the numbers of a normalisation: one, or one a channel.

    Args:
        name: "mean" or "std".
        value: a number, or one a channel.

    Raises:
        SettingsError: it is neither, or a deviation isn't positive.

    Example:
        >>> per_channel("std", 0.5), per_channel("mean", [0, 1, 0])
        ([0.5], [0.0, 1.0, 0.0])
    """
    values = [value] if isinstance(value, int | float) else list(value)
    if not values or not all(map(is_number, values)) or (name == "std" and min(values) <= 0):
        wanted = "positive numbers" if name == "std" else "numbers"
        raise SettingsError(f"{name} must be {wanted}, one or one a channel, got {value!r}")
    return [float(part) for part in values]


def channels_of(
    sources: Sequence[Source],
    given: int | None,
    normalisation: tuple[list[float], ...],
    size: tuple[int, int],
) -> int:
    """Return how many channels images have: what is given, or what the networks run on.

    Args:
        sources: the networks.
        given: a number of channels; None: 3 or 1.
        normalisation: what `per_channel` returns of mean and std.
        size: height and width in pixels.

    Raises:
        SettingsError: what is given disagrees, or images have neither 1 nor 3 channels.
        CalibrationError: a network can't be run on such images.

    Example:
        >>> channels_of([Source(torch.nn.BatchNorm2d(1))], None, ([0.0], [1.0]), (8, 8))
        1
    """
    lengths = {len(value) for value in normalisation} - {1}
    wanted = lengths if given is None else {given, *lengths}
    if len(wanted) > 1:
        raise SettingsError(f"channels, mean and std must agree, got {sorted(map(str, wanted))} channels")
    failed: Exception | None = None
    for channels in wanted or (3, 1):
        image = torch.zeros(2, channels, *size)
        try:
            with torch.no_grad():
                for source in sources:
                    source.network(image.to(device_of(source)))
        except Exception as error:  # whatever the user's own code raises
            failed = failed or error
        else:
            check_channels(channels)
            return channels
    raise CalibrationError(
        f"The network can't be run on images of {size[0]}x{size[1]} pixels ({failed}): check size=, and give "
        "channels= if it reads others than grey or coloured images."
    ) from failed
