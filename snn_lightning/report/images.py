"""The section about the calibration images, where they are others than the data's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_lightning.errors import SettingsError
from snn_lightning.report.collect import Contents
from snn_lightning.report.parts import Picture, Section

SOURCES = {
    "real": "of the training data",
    "folder": "of a folder",
    "synthetic": "made from the ANN",
    "noise": "of noise",
}


def described(results: Mapping[str, Any]) -> str:
    """Say how many calibration images came from where; nothing where they are the data's own.

    Example:
        >>> described({"data_source": "folder+noise", "calibration_images": {"folder": 3, "noise": 5}})
        '3 images of a folder and 5 of noise'
    """
    counts = results.get("calibration_images") or {}
    if results.get("data_source", "real") == "real" or not counts:
        return ""
    parts = [f"{count} {SOURCES.get(name, name)}" for name, count in counts.items()]
    first, *others = (part.replace(" ", " images ", 1) if not i else part for i, part in enumerate(parts))
    return " and ".join([", ".join([first, *others[:-1]]), *others[-1:]])


def calibration_images(contents: Contents) -> list[Section]:
    """Show where the calibration images came from; no section where they are the data's own."""
    text = described(contents.results)
    if not text:
        return []
    pictures = []
    if contents.contact_sheet is not None:
        pictures.append(Picture("The first of the images made from the ANN.", contents.contact_sheet))
    return [Section("images", "The calibration images", [f"{text[0].upper()}{text[1:]}."], pictures=pictures)]


def read_sheet(path: str | Path | None) -> bytes | None:
    """Return a contact sheet.

    Raises:
        SettingsError: there is none.
    """
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"contact_sheet: '{path}' can't be read ({error.strerror}); name a PNG file"
        ) from error
