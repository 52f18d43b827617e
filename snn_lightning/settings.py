"""The base of settings that are chosen by class, and the checks that settings share."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TypeGuard

from snn_lightning.errors import SettingsError


class Settings:
    """Base of dataclasses that are chosen by class: pipelines, thresholds, neurons.

    It is no dataclass itself: command lines made from type hints (jsonargparse, Lightning's `LightningCLI`)
    take a family of pure dataclasses for one class, and would refuse `class_path: snn_lightning.ACP`.
    """


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is a finite number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def check_whole(
    name: str, value: object, least: int = 1, most: int | None = None, optional: bool = False
) -> None:
    """Refuse what is no whole number from `least` to `most`, but for None if that is `optional`.

    Raises:
        SettingsError: naming the setting, what it must be and what it is.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= (most or value):
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise SettingsError(f"{name} must be a whole number {wanted}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False; see `check_whole`."""
    if not isinstance(value, bool):
        raise SettingsError(f"{name} must be true or false, got {value!r}")


def check_positive(name: str, value: object, optional: bool = False) -> None:
    """Refuse what is no positive finite number; see `check_whole`."""
    if not ((is_number(value) and value > 0) or (value is None and optional)):
        raise SettingsError(f"{name} must be a positive number, got {value!r}")


def check_interval(name: str, value: object, interval: str) -> None:
    """Refuse what is no number in an interval such as "[0, 1)"; see `check_whole`."""
    low, high = map(float, interval[1:-1].split(","))
    outside = not is_number(value) or not low <= value <= high
    if outside or (value == low and interval[0] == "(") or (value == high and interval[-1] == ")"):
        raise SettingsError(f"{name} must be in {interval}, got {value!r}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse what is none of `choices`; see `check_whole`."""
    if not isinstance(value, str) or value not in choices:
        few = len(choices) == 2
        wanted = " or ".join(map(repr, choices)) if few else f"one of {', '.join(choices)}"
        raise SettingsError(f"{name} must be {wanted}, got {value!r}")
