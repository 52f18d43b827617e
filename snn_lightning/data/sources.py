"""Where calibration images come from: training data, a folder, the ANN itself, noise, or several of them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from snn_lightning.data.datamodule import ENOUGH, ImageDataModule
from snn_lightning.data.unlabelled import ImageFiles, Noise, image_files, readable
from snn_lightning.errors import ImageError, SettingsError, few, unknown

SOURCES = ("real", "folder", "synthetic", "noise")

Make = Callable[[int], Tensor | Dataset[Tensor]]
"""Gives so many images, normalised: `[N, C, H, W]`, or `[C, H, W]` one by one."""


@dataclass(frozen=True)
class DataSource:
    """Where calibration images come from.

    Args:
        data_source: "real" (training images of the data), "folder" (any images, without labels), "synthetic"
            (made from the ANN), "noise" (Gaussian, of the networks' inputs), or several, joined by "+".
        path: of the folder.
        skip_unreadable: leave out images of the folder that can't be read, with a warning, instead of
            refusing them.

    Raises:
        SettingsError: an unknown source, one twice, or a folder without a path or a path without a folder.

    Example:
        >>> DataSource("folder+synthetic", path="photos").names
        ('folder', 'synthetic')
    """

    data_source: str = "real"
    path: str | Path | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.data_source, str) or not self.data_source:
            known = ", ".join(SOURCES)
            raise SettingsError(
                f"data_source must be one of {known}, or several joined by +, got {self.data_source!r}"
            )
        for name in self.names:
            if name not in SOURCES:
                raise SettingsError(unknown("data_source", name, SOURCES))
        if len(set(self.names)) < len(self.names):
            raise SettingsError(f"data_source={self.data_source} names a source twice: leave one of them out")
        if not isinstance(self.skip_unreadable, bool):
            raise SettingsError(f"skip_unreadable must be true or false, got {self.skip_unreadable!r}")
        if "folder" in self.names and not self.path:
            raise SettingsError("data_source=folder needs path=..., the folder that holds the images")
        if "folder" not in self.names and self.path is not None:
            raise SettingsError(
                f"path={self.path} is of data_source=folder, and data_source={self.data_source}: leave it "
                "out, or name folder among the sources"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Each source, in the order in which they were named."""
        return tuple(self.data_source.split("+"))


class CalibrationImages:
    """The calibration images of a source, for the networks of a data module.

    There are `data.calibration_images` in all. A folder gives all it has, up to that number; the other
    sources share equally what is left. Images of real data alone come with their labels, as
    `data.calibration_dataloader()` gives them; all others as batches `[N, C, H, W]`.

    Args:
        source: where they come from.
        data: says how many, of which size, and how they are normalised.

    Raises:
        SettingsError: the source doesn't go with the data.

    Example:
        >>> from snn_lightning.data import Digits
        >>> images = CalibrationImages(DataSource("real+noise"), Digits(image_size=8, calibration_images=9))
        >>> images.counts
        {'real': 5, 'noise': 4}
        >>> next(iter(images.sample())).shape
        torch.Size([9, 1, 8, 8])
    """

    def __init__(self, source: DataSource, data: LightningDataModule) -> None:
        self.source, self.data = source, data
        if source.names == ("real",):
            return
        if not isinstance(data, ImageDataModule) or data.collate_fn is not None:
            raise SettingsError(
                f"data_source={source.data_source} gives batches of images of one size, and those of "
                f"{type(data).__name__} are of another form: set data_source=real, or data.target=masks of "
                "data that have both"
            )

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many images each source gives.

        Raises:
            SettingsError: one gives none, or there are fewer than wanted.
            ImageError: an image of the folder can't be read.
        """
        names = self.source.names
        if names == ("real",):
            return {"real": len(cast(Any, self._real_loader().dataset))}
        left, shared = self._wanted, [name for name in names if name != "folder"]
        counts = dict.fromkeys(names, 0)
        if "folder" in names:
            counts["folder"] = len(self._files)
            left -= counts["folder"]
        for index, name in enumerate(shared):
            counts[name] = left // len(shared) + (index < left % len(shared))
        if empty := [name for name, count in counts.items() if not count]:
            found = f", of which {self.source.path} gives {counts['folder']}" if "folder" in names else ""
            raise SettingsError(
                f"data_source={self.source.data_source}: no image is left for {' and '.join(empty)}: "
                f"data.calibration_images={self._wanted} is their number in all{found}; raise it, or leave "
                f"{' and '.join(empty)} out"
            )
        if "real" in names:
            self._images.calibration_set(counts["real"])  # says if there are fewer
        return counts

    def __len__(self) -> int:
        return sum(self.counts.values())

    def loader(self, synthesise: Make) -> DataLoader[Any]:
        """Batches of all images, source by source.

        Args:
            synthesise: makes images from the ANN.
        """
        if self.source.names == ("real",):
            return self._real_loader()
        parts = [self._part(name, count, synthesise) for name, count in self.counts.items()]
        size = self._images.settings.calibration_batch_size
        return self._images.loader(ConcatDataset(parts), batch_size=size, collate_fn=None)

    def sample(self) -> DataLoader[Any]:
        """The same, with noise in place of what takes long to make."""
        return self.loader(self._noise)

    @property
    def _images(self) -> ImageDataModule:
        return cast(ImageDataModule, self.data)

    @property
    def _wanted(self) -> int:
        wanted = self._images.settings.calibration_images
        return ENOUGH if wanted is None else wanted

    @property
    def _mode(self) -> str:
        return "RGB" if self._images.in_channels == 3 else "L"

    def _real_loader(self) -> DataLoader[Any]:
        return cast(DataLoader[Any], cast(Any, self.data).calibration_dataloader())

    def _part(self, name: str, count: int, synthesise: Make) -> Dataset[Tensor]:
        if name == "real":
            return _WithoutLabels(self._images.calibration_set(count))
        if name == "folder":
            return ImageFiles(self._files, self._images.plain_transform(), self._mode)
        if name == "noise":
            return self._noise(count)
        return cast(Dataset[Tensor], synthesise(count))

    def _noise(self, count: int) -> Noise:
        data = self._images
        shape = data.in_channels, data.image_size, data.image_size
        return Noise(count, shape, data.settings.calibration_seed_used)

    @cached_property
    def _files(self) -> list[Path]:
        """Readable images of the folder, sorted; of more than are wanted those that the seed draws."""
        data, folder = self._images, Path(cast(str, self.source.path))
        data.plain_transform()  # says if it can't
        files = image_files(folder)
        order = torch.arange(len(files))
        if len(files) > self._wanted:
            generator = torch.Generator().manual_seed(data.settings.calibration_seed_used)
            order = torch.randperm(len(files), generator=generator)
        drawn = [files[position] for position in order.tolist()]
        found, problems = readable(drawn, self._wanted, data.resize or data.image_size)
        if problems and not self.source.skip_unreadable:
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise ImageError(
                f"{problems[0]}{more}: replace what can't be read, delete it, or leave it out by "
                "skip_unreadable=true"
            )
        if not found:
            raise SettingsError(
                f"path: none of the {len(files)} images in {folder} can be read ({problems[0]})"
            )
        if problems:
            warnings.warn(
                f"{len(problems)} of {len(found) + len(problems)} images in {folder} can't be read and are "
                f"left out: {few(problems, 3)}",
                stacklevel=2,
            )
        return sorted(found)


class _WithoutLabels(Dataset[Tensor]):
    def __init__(self, images: Dataset[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(cast(Any, self.images))

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index][0]
