"""The user's own images, in a folder for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from snn_lightning.data.datamodule import ImageDataModule
from snn_lightning.data.imagenet import MEAN, STD
from snn_lightning.data.images import FolderImages, normalisation
from snn_lightning.data.settings import DataSettings, check_channels
from snn_lightning.data.splits import stratified_split
from snn_lightning.errors import SettingsError, few
from snn_lightning.files import fingerprint

PARTS = ("train", "val", "test")
GREY = ((sum(MEAN) / 3,), (sum(STD) / 3,))


class Folder(ImageDataModule):
    """Images of any size in `root/train/<class>/`, and maybe in `root/val/<class>/` and `root/test/<class>/`.

    `test` is the test set and `val` validates; one of them alone is the test set. What has no folder is held
    back from the training images, each class in proportion and always in the same way.

    Training: a random crop of half the area or more, brought to the image size, and flip. Otherwise: the
    shorter side to `resize`, centre crop.

    Args:
        root: the folder that holds `train`.
        image_size: H and W of the crops.
        resize: pixels of the shorter side before the centre crop; None is `image_size`.
        in_channels: 3, or 1 (grey); the files may be either.
        mean: per channel or of all, in 0…1; None is ImageNet's.
        std: per channel or of all, in 0…1; None is ImageNet's.
        test_fraction: part of the training images that become the test set where there is no folder for it.
        settings: see `DataSettings`.

    Raises:
        SettingsError: the folders aren't as above, or their classes differ.

    Example:
        >>> from tempfile import mkdtemp
        >>> from PIL import Image
        >>> root = Path(mkdtemp())
        >>> for index in range(40):
        ...     folder = root / "train" / ("cats" if index % 2 else "dogs")
        ...     folder.mkdir(parents=True, exist_ok=True)
        ...     Image.new("RGB", (12, 10)).save(folder / f"{index}.png")
        >>> data = Folder(root, image_size=8, num_workers=0)
        >>> data.class_names, len(data.test_dataloader().dataset)
        (['cats', 'dogs'], 8)
    """

    mean: list[float]
    std: list[float]

    def __init__(
        self,
        root: str | Path,
        *,
        image_size: int = 224,
        resize: int | None = None,
        in_channels: int = 3,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        test_fraction: float = 0.2,
        **settings: Any,
    ) -> None:
        check_channels(in_channels)
        self.root = Path(root)
        self._parts, names = _read_layout(self.root)
        defaults = {"batch_size": 64, "num_workers": 2, "calibration_images": None}
        super().__init__(len(names), in_channels, image_size, DataSettings.of(settings, **defaults))
        self.class_names = names
        self.test_fraction = test_fraction
        default = (MEAN, STD) if in_channels == 3 else GREY
        self.mean = _numbers("mean", default[0] if mean is None else mean, in_channels)
        self.std = _numbers("std", default[1] if std is None else std, in_channels)
        resize = image_size if resize is None else resize
        if not isinstance(resize, int) or resize < image_size:
            raise SettingsError(
                f"data.resize must be a whole number of at least data.image_size={image_size}, got {resize!r}"
            )
        self.resize = resize
        crop = v2.RandomResizedCrop(image_size, scale=(0.5, 1.0))
        self._augment = v2.Compose([crop, v2.RandomHorizontalFlip(), *normalisation(self.mean, self.std)])

    def load(self) -> tuple[FolderImages, FolderImages | None, FolderImages]:
        """List the folders, and hold test images back if there is none for them."""
        train, *others = (self._list(part) for part in self._parts)
        if not others:
            first, second = stratified_split(train.labels, self.test_fraction, "data.test_fraction")
            return train.part(first), None, train.part(second)
        return train, others[0] if len(others) == 2 else None, others[-1]

    def files_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the names and sizes of the training images."""
        files = (Path(path) for path, _ in self._list("train").files)
        return fingerprint(
            f"{path.relative_to(self.root).as_posix()}\0{path.stat().st_size}\0".encode() for path in files
        )

    def _list(self, part: str) -> FolderImages:
        folder = ImageFolder(self.root / part, allow_empty=True)
        empty = set(range(self.num_classes)) - set(folder.targets)
        if empty:
            names = ", ".join(str(self.root / part / folder.classes[label]) for label in sorted(empty))
            raise SettingsError(
                f"data.root: no images in {names}: put some there ({', '.join(folder.extensions or ())}), or "
                f"remove the class from {', '.join(self._parts)}"
            )
        mode = "RGB" if self.in_channels == 3 else "L"
        return FolderImages(folder.samples, self.plain_transform(), self._augment, mode)


def _read_layout(root: Path) -> tuple[list[str], list[str]]:
    """Which of the three folders there are, and the classes that all of them have."""
    if not root.is_dir():
        raise SettingsError(
            f"data.root: there is no folder {root}; set data.root to the one that holds train/<class>/"
        )
    held = _folders(root)
    if "train" not in held:
        raise SettingsError(
            f"data.root: {root} holds {few(held) or 'no folders'}, and no train: put the images into "
            f"{root / 'train' / '<class>'}, test images into {root / 'test' / '<class>'}"
        )
    for name in held:
        meant = [part for part in PARTS if name.lower().startswith(part) and name != part]
        if meant:
            raise SettingsError(
                f"data.root: {root / name} isn't read; rename it to {meant[0]}, or move it away"
            )
    parts = [part for part in PARTS if part in held]
    names = _folders(root / "train")
    if len(names) < 2:
        held_there = f"one class, {names[0]!r}" if names else "no class folders"
        raise SettingsError(
            f"data.root: {root / 'train'} holds {held_there}; a classifier needs at least two, each in a "
            "folder of its own"
        )
    for part in parts:
        if (other := _folders(root / part)) != names:
            raise SettingsError(_difference(root / part, other, root / "train", names))
    return parts, names


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir())


def _difference(folder: Path, names: list[str], train: Path, expected: list[str]) -> str:
    lacks = few(sorted(set(expected) - set(names)))
    more = few(sorted(set(names) - set(expected)))
    text = " and ".join(
        part for part in (f"lacks {lacks}" if lacks else "", f"has {more} besides" if more else "") if part
    )
    return f"data.root: compared with {train}, {folder} {text}: both need the same class folders"


def _numbers(field: str, values: Sequence[float] | float, count: int) -> list[float]:
    numbers = [float(value) for value in ([values] * count if isinstance(values, int | float) else values)]
    if len(numbers) != count or (field == "std" and min(numbers) <= 0):
        positive = "positive " if field == "std" else ""
        raise SettingsError(f"data.{field} must be {count} {positive}numbers, one a channel, got {numbers}")
    return numbers
