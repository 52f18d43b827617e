"""ImageNet, or any data set in its layout, with the papers' augmentation (PC B.1)."""

from pathlib import Path
from typing import Any

from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from snn_lightning.data.datamodule import ImageDataModule
from snn_lightning.data.images import FolderImages, normalisation
from snn_lightning.data.settings import DataSettings
from snn_lightning.errors import SettingsError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageNet(ImageDataModule):
    """Images in `root/train/<class>/` and `root/val/<class>/`; the latter are the test set.

    Training: random resized crop, flip and ColorJitter(0.2, 0.2, 0.2, 0.1). Otherwise: the shorter side to
    256/224 of the image size, centre crop. 1% of the training set validates.

    Args:
        root: the folder that holds `train` and `val`.
        num_classes: number of class folders in each.
        image_size: H and W of the crops.
        settings: see `DataSettings`.

    Example:
        >>> data = ImageNet("imagenet", num_classes=100, image_size=64)  # reads nothing yet
        >>> data.settings.val_fraction
        0.01
    """

    def __init__(
        self, root: str | Path, *, num_classes: int = 1000, image_size: int = 224, **settings: Any
    ) -> None:
        defaults = {"batch_size": 256, "num_workers": 8, "val_fraction": 0.01}
        super().__init__(num_classes, 3, image_size, DataSettings.of(settings, **defaults))
        self.root = Path(root)
        self.mean, self.std, self.resize = MEAN, STD, round(image_size * 256 / 224)

    def load(self) -> tuple[FolderImages, None, FolderImages]:
        """List both folders."""
        return self._read("train"), None, self._read("val")

    def _read(self, part: str) -> FolderImages:
        try:
            folder = ImageFolder(self.root / part)
        except FileNotFoundError as error:
            raise SettingsError(
                f"data.root: no images in {self.root / part} ({error}); set data.root to a folder that holds "
                "train/<class>/ and val/<class>/"
            ) from error
        if len(folder.classes) != self.num_classes:
            raise SettingsError(
                f"data.num_classes={self.num_classes}, but {self.root / part} holds "
                f"{len(folder.classes)} classes: set it to that number"
            )
        finish = normalisation(MEAN, STD)
        size = self.image_size
        jitter = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
        augment = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), jitter, *finish])
        return FolderImages(folder.samples, self.plain_transform(), augment)
