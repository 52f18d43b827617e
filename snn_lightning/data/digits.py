"""scikit-learn's handwritten digits."""

from typing import Any

import torch
from sklearn.datasets import load_digits

from snn_lightning.data.augment import RandomCrop
from snn_lightning.data.datamodule import ImageDataModule
from snn_lightning.data.images import TensorImages, bilinear
from snn_lightning.data.settings import DataSettings, check_channels
from snn_lightning.data.splits import stratified_split


class Digits(ImageDataModule):
    """scikit-learn's 1797 handwritten digits of 8x8 pixels: 1257 train, 180 validate, 360 test.

    Args:
        image_size: H and W the digits are brought to.
        in_channels: 1, or 3 (the same image three times).
        settings: see `DataSettings`.

    Example:
        >>> digits = Digits(image_size=8, calibration_images=100)
        >>> images, labels = next(iter(digits.calibration_dataloader()))
        >>> images.shape
        torch.Size([100, 1, 8, 8])
        >>> len(digits.test_dataloader().dataset)
        360
    """

    mean: list[float]
    std: list[float]

    def __init__(self, *, image_size: int = 32, in_channels: int = 1, **settings: Any) -> None:
        check_channels(in_channels)
        defaults = {"batch_size": 64, "val_fraction": 0.125}
        super().__init__(10, in_channels, image_size, DataSettings.of(settings, **defaults))
        self.mean, self.std = [0.305] * in_channels, [0.33] * in_channels

    def load(self) -> tuple[TensorImages, None, TensorImages]:
        """Split the digits into a training and a test set, always the same."""
        digits = load_digits()
        images = torch.from_numpy(digits.images).float()[:, None] / 16
        images = bilinear(images, self.image_size).expand(-1, self.in_channels, -1, -1).contiguous()
        labels = torch.from_numpy(digits.target).long()
        shift = RandomCrop(max(1, self.image_size // 16))
        train, test = stratified_split(labels, 0.2, "the digits' test fraction")
        return (
            TensorImages(images[train], labels[train], self.mean, self.std, shift),
            None,
            TensorImages(images[test], labels[test], self.mean, self.std, shift),
        )
