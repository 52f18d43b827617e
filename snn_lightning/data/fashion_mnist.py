"""Fashion-MNIST."""

import gzip
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.datasets.mnist import read_image_file, read_label_file

from snn_lightning.data.augment import Chain, RandomCrop, RandomFlip
from snn_lightning.data.datamodule import ImageDataModule
from snn_lightning.data.images import TensorImages, bilinear
from snn_lightning.data.settings import DataSettings, check_channels
from snn_lightning.errors import SettingsError

DEBIAN_FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts the files."""


class FashionMNIST(ImageDataModule):
    """Fashion-MNIST from its four idx files, which are only read, never written or downloaded.

    Args:
        root: a folder that holds the idx or idx.gz files, or torchvision's root above `FashionMNIST/raw`.
        image_size: H and W; up to 32 zeros are added around the 28x28 pixels, other sizes are interpolated.
        in_channels: 1, or 3 (the same image three times).
        settings: see `DataSettings`.

    Example:
        >>> data = FashionMNIST("fashion", image_size=28)  # reads nothing yet
        >>> data.num_classes, data.in_channels
        (10, 1)
    """

    mean: list[float]
    std: list[float]

    def __init__(
        self,
        root: str | Path = DEBIAN_FASHION_MNIST,
        *,
        image_size: int = 32,
        in_channels: int = 1,
        **settings: Any,
    ) -> None:
        check_channels(in_channels)
        super().__init__(10, in_channels, image_size, DataSettings.of(settings))
        self.mean, self.std = [0.286] * in_channels, [0.353] * in_channels
        self.root = Path(root)

    def load(self) -> tuple[TensorImages, None, TensorImages]:
        """Read both sets, as uint8."""
        return self._read("train"), None, self._read("t10k")

    def _read(self, part: str) -> TensorImages:
        images = _read_idx(self.root, f"{part}-images-idx3-ubyte", read_image_file)[:, None]
        labels = _read_idx(self.root, f"{part}-labels-idx1-ubyte", read_label_file)
        margin = self.image_size - images.shape[-1]
        if 0 <= margin <= 4 and margin % 2 == 0:
            images = pad(images, [margin // 2] * 4)
        else:
            images = bilinear(images.float() / 255, self.image_size).mul_(255).round_().to(torch.uint8)
        images = images.expand(-1, self.in_channels, -1, -1)
        augment = Chain(RandomCrop(2), RandomFlip())
        return TensorImages(images, labels, self.mean, self.std, augment)


def _read_idx(root: Path, name: str, read: Any) -> Tensor:
    """Read an idx file, packed or not, from `root` or from torchvision's layout below it."""
    folders = [root, root / "FashionMNIST" / "raw"]
    for folder in folders:
        plain, packed = folder / name, folder / f"{name}.gz"
        if plain.is_file():
            return read(str(plain))
        if packed.is_file():
            # torchvision reads unpacked files only; the folder of the data may not be ours to write.
            with tempfile.NamedTemporaryFile() as unpacked, gzip.open(packed) as source:
                shutil.copyfileobj(source, unpacked)
                unpacked.flush()
                return read(unpacked.name)
    raise SettingsError(
        f"data.root: no {name} or {name}.gz in {' or '.join(map(str, folders))}; install Debian's package "
        "dataset-fashion-mnist, or set data.root to a folder that holds Fashion-MNIST's four files"
    )
