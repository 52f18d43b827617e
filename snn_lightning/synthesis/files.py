"""Synthetic images as PNG files in a folder that says what they were made of."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.files import write_atomically

SHEET = 64
"""So many images at most are on the contact sheet."""
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImageFolder:
    """A folder of numbered PNG files, all made with the same settings of the same networks.

    Args:
        path: of the folder, made where there is none.
        key: all that the images depend on, plain values; kept in `synthesis.json`.

    Example:
        >>> folder = ImageFolder(Path("images"), {"seed": 0})
        >>> folder.open()
        >>> folder.write(0, torch.full((2, 1, 4, 4), 7, dtype=torch.uint8))
        >>> folder.has(range(2)), folder.read(range(2)).unique().tolist()
        (True, [7])
    """

    path: Path
    key: Mapping[str, Any]

    def open(self) -> None:
        """Say what will lie in the folder, or check that what lies there is the same.

        Raises:
            SettingsError: it holds images that were made otherwise.
        """
        note = self.path / "synthesis.json"
        text = json.dumps(self.key, indent=2, sort_keys=True) + "\n"
        try:
            there = json.loads(note.read_text()) if note.exists() else None
        except ValueError:
            there = {}
        if there is None and not any(self.path.glob("image_*.png")):
            write_atomically(note, text.encode())
        elif there != json.loads(text):
            there = there or {}
            other = [
                name
                for name in self.key
                if not isinstance(there, dict) or there.get(name) != json.loads(text)[name]
            ]
            raise SettingsError(
                f"The images in '{self.path}' were made with other {', '.join(sorted(other)) or 'settings'}: "
                "choose another folder, or delete it to make them anew."
            )

    def file(self, number: int) -> Path:
        """Return where an image lies."""
        return self.path / f"image_{number:05d}.png"

    def has(self, numbers: Sequence[int]) -> bool:
        """Return whether all these images are there."""
        return all(self.file(number).exists() for number in numbers)

    def write(self, first: int, pixels: Tensor) -> None:
        """Write images.

        Args:
            first: number of the first one.
            pixels: `[N, C, H, W]`, uint8, of 1 or 3 channels.
        """
        for number, image in enumerate(pixels, first):
            write_atomically(self.file(number), encode(image))

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Return images, pixels `[N, C, H, W]`, uint8.

        Raises:
            CheckpointError: one is missing, damaged, or of another size.
        """
        images = []
        for number in numbers:
            try:
                with Image.open(self.file(number)) as image:
                    pixels = torch.from_numpy(np.array(image))
                images.append((pixels[None] if pixels.dim() == 2 else pixels.movedim(2, 0)).contiguous())
                if images[-1].shape != images[0].shape:
                    raise ValueError(f"it has the shape {tuple(images[-1].shape)}")
            except (OSError, SyntaxError, ValueError) as error:
                raise CheckpointError(
                    f"The image '{self.file(number)}' can't be read ({error}): delete it and run "
                    "the same again, which makes it anew."
                ) from error
        return torch.stack(images)

    def write_sheet(self, pixels: Tensor) -> None:
        """Write the first images side by side into `contact_sheet.png`."""
        from torchvision.utils import make_grid

        grid = make_grid(pixels[:SHEET], nrow=8, padding=2, pad_value=255)
        write_atomically(self.path / "contact_sheet.png", encode(grid))


def encode(pixels: Tensor) -> bytes:
    """Return pixels `[C, H, W]`, uint8, as a PNG file.

    Raises:
        SettingsError: they have neither 1 nor 3 channels.
    """
    check_channels(pixels.shape[0])
    array = pixels.movedim(0, 2).squeeze(2).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def check_channels(channels: int) -> None:
    """Check that images of so many channels are pictures.

    Raises:
        SettingsError: they aren't.
    """
    if channels not in MODES:
        raise SettingsError(
            f"Images are grey or coloured, with 1 or 3 channels, and the network reads {channels}: calibrate "
            "it on real inputs."
        )
