"""CIFAR-10 and CIFAR-100 with the papers' augmentation (PC B.2)."""

from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision.transforms import v2

from snn_lightning.data.augment import Chain, Cutout, PerImage, RandomCrop, RandomFlip
from snn_lightning.data.datamodule import ImageDataModule
from snn_lightning.data.images import TensorImages
from snn_lightning.data.settings import DataSettings
from snn_lightning.errors import SettingsError


class _CIFAR(ImageDataModule):
    """Either CIFAR, read through torchvision and held in memory as uint8."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(
        self, source: type[torchvision.datasets.CIFAR10], classes: int, hole: int, root: Any, settings: Any
    ):
        super().__init__(classes, 3, 32, DataSettings.of(settings, val_fraction=0.05))
        self.root = Path(root)
        self._source = source
        self._hole = hole

    def load(self) -> tuple[TensorImages, None, TensorImages]:
        """Read both sets."""
        return self._read(train=True), None, self._read(train=False)

    def _read(self, train: bool) -> TensorImages:
        try:
            data = self._source(str(self.root), train=train, download=False)
        except (RuntimeError, FileNotFoundError) as error:
            name = self._source.__name__
            raise SettingsError(
                f"data.root: no intact {self._source.base_folder} in {self.root}; set data.root to the "
                f"folder that holds it, or fetch it: "
                f"torchvision.datasets.{name}({str(self.root)!r}, download=True)"
            ) from error
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        augment = Chain(
            RandomCrop(4),
            RandomFlip(),
            PerImage(v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
            Cutout(self._hole, [255 * m for m in self.mean]),
        )
        return TensorImages(images, torch.tensor(data.targets), self.mean, self.std, augment)


class CIFAR10(_CIFAR):
    """CIFAR-10: crop with padding 4, flip, AutoAugment and a 16x16 Cutout; 5% of the training set validates.

    Args:
        root: the folder that holds `cifar-10-batches-py`.
        settings: see `DataSettings`.

    Example:
        >>> data = CIFAR10("data", calibration_images=1024)  # reads nothing yet
        >>> data.num_classes, data.image_size
        (10, 32)
    """

    mean = (0.4914, 0.4822, 0.4465)
    std = (0.247, 0.2435, 0.2616)

    def __init__(self, root: str | Path, **settings: Any) -> None:
        super().__init__(torchvision.datasets.CIFAR10, 10, 16, root, settings)


class CIFAR100(_CIFAR):
    """CIFAR-100: crop with padding 4, flip, AutoAugment and an 8x8 Cutout; 5% of the training set validates.

    Args:
        root: the folder that holds `cifar-100-python`.
        settings: see `DataSettings`.

    Example:
        >>> CIFAR100("data", batch_size=256).num_classes  # reads nothing yet
        100
    """

    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)

    def __init__(self, root: str | Path, **settings: Any) -> None:
        super().__init__(torchvision.datasets.CIFAR100, 100, 8, root, settings)
