"""Settings as plain values, which a checkpoint and a fingerprint can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from snn_lightning.errors import SettingsError


def plain(value: Any, field: str = "settings") -> Any:
    """Turn nested mappings and sequences (OmegaConf's too) into dicts and lists of plain values.

    Args:
        value: what to convert.
        field: its name, for the message.

    Raises:
        SettingsError: something in it is neither None, a bool, a number nor a string.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{field}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item, f"{field}[{index}]") for index, item in enumerate(value)]
    raise SettingsError(f"{field} must be a plain value, got {type(value).__name__}: {value!r}")
