"""Images without labels: those of any folder, and noise."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from snn_lightning.errors import ImageError, SettingsError

LARGEST = 2**27
"""So many pixels an image may have, as it is and with its shorter side brought to that of the others."""


class ImageFiles(Dataset[Tensor]):
    """Image files of any size and kind, decoded when they are fetched.

    Args:
        files: their paths.
        transform: maps a PIL image to `[C, H, W]`.
        mode: what every image is brought to: "RGB", or "L" (grey).

    Example:
        >>> from torchvision.transforms.functional import to_tensor
        >>> Image.new("RGBA", (4, 2)).save("clear.png")
        >>> images = ImageFiles([Path("clear.png")], to_tensor, "L")
        >>> images[0].shape, images[0].min().item()
        (torch.Size([1, 2, 4]), 1.0)
    """

    def __init__(self, files: Sequence[Path], transform: Callable[[Any], Tensor], mode: str) -> None:
        self.files = files
        self.mode = mode
        self._transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self._transform(decode(self.files[index], self.mode))


class Noise(Dataset[Tensor]):
    """Gaussian noise of mean 0 and variance 1; each image has a stream of its own, whatever their number.

    Args:
        count: number of images.
        shape: of an image, `[C, H, W]`.
        seed: gives other noise.

    Example:
        >>> torch.equal(Noise(2, (1, 4, 4), seed=0)[1], Noise(9, (1, 4, 4), seed=0)[1])
        True
    """

    def __init__(self, count: int, shape: tuple[int, int, int], seed: int) -> None:
        self.count, self.shape, self.seed = count, shape, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.count:
            raise IndexError(index)
        stream = np.random.default_rng([self.seed, index])
        return torch.from_numpy(stream.standard_normal(self.shape, dtype=np.float32))


def image_files(folder: Path) -> list[Path]:
    """Return all image files in a folder and those in it, sorted, but for names that start with a dot.

    Raises:
        SettingsError: there is no such folder, or no image in it.

    Example:
        >>> Path("photos/sea").mkdir(parents=True)
        >>> for name in ("b.PNG", "sea/a.jpg", "notes.txt", "._b.png"):
        ...     Path("photos", name).touch()
        >>> [path.as_posix() for path in image_files(Path("photos"))]
        ['photos/b.PNG', 'photos/sea/a.jpg']
    """
    if not folder.is_dir():
        raise SettingsError(f"path: there is no folder {folder}; set path to the one that holds the images")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        kinds = ", ".join(IMG_EXTENSIONS)
        raise SettingsError(f"path: {folder} holds no image ({kinds}); set path to a folder that does")
    return files


def readable(files: Sequence[Path], wanted: int, resize: int) -> tuple[list[Path], list[str]]:
    """Decode files in their order until so many are read; return those, and what is wrong with the others.

    Args:
        files: paths of images.
        wanted: how many are enough.
        resize: pixels to which the shorter side is brought later.
    """
    good, problems, waiting = list[Path](), list[str](), list(files)
    with ThreadPoolExecutor() as pool:
        while waiting and len(good) < wanted:
            tried, waiting = waiting[: wanted - len(good)], waiting[wanted - len(good) :]
            found = list(pool.map(lambda path: _problem(path, resize), tried))
            good += [path for path, problem in zip(tried, found, strict=True) if problem is None]
            problems += [problem for problem in found if problem is not None]
    return good, problems


def decode(path: Path, mode: str) -> Image.Image:
    """Decode a file of any kind, turned as its EXIF data say, and bring it to a mode of PIL.

    Of 16 bits the upper 8 are kept, rounded; what is transparent is laid on white.

    Raises:
        ImageError: it is damaged, empty, no image, or too large.

    Example:
        >>> Image.fromarray(np.full((2, 4), 65535, dtype=np.uint16)).save("deep.png")
        >>> decode(Path("deep.png"), "RGB").getpixel((0, 0))
        (255, 255, 255)
    """
    try:
        with Image.open(path) as image:
            _check_size(image.size, min(image.size))
            turned = ImageOps.exif_transpose(image)
            return _on_white(_eight_bits(turned)).convert(mode)
    except Exception as error:  # of many types: OSError, SyntaxError, ValueError, ...
        raise ImageError(f"the image {path} can't be read ({error})") from error


def _problem(path: Path, resize: int) -> str | None:
    """Say why an image can't be used."""
    try:
        _check_size(decode(path, "L").size, resize)
    except ImageError as error:
        return str(error)
    except ValueError as error:
        return f"the image {path} can't be used ({error})"
    return None


def _check_size(size: tuple[int, int], shorter: int) -> None:
    """Raise a ValueError if an image has no pixels, or too many with a shorter side of so many pixels."""
    if min(size) < 1:
        raise ValueError(f"it is empty, {size[0]}x{size[1]} pixels")
    if max(size) / min(size) * shorter**2 > LARGEST:
        scaled = "" if shorter == min(size) else f" with the shorter side brought to {shorter}"
        raise ValueError(f"its {size[0]}x{size[1]} pixels are too many{scaled}")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring an image of 16 bits, which PIL would cut off at 255, to 8."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("it has more than 16 bits a channel")
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not (image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info):
        return image
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
