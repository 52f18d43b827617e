"""What every data module has in common: the splits, the loaders and the calibration set."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from snn_lightning.data.images import Images, LabelledImages, Sample, normalisation
from snn_lightning.data.settings import DataSettings
from snn_lightning.data.splits import draw, limit, stratified_split
from snn_lightning.errors import SettingsError

ENOUGH = 256
"""Calibration images where their number isn't said."""


class ImageDataModule(LightningDataModule, ABC):
    """Training, validation, test and calibration batches `(x [N, C, H, W] float32, y [N] int64)` of images.

    A subclass implements `load`, and sets `collate_fn` if its batches are of another form. The validation
    images have a set of their own or are taken from the training set, never from the test set; the
    calibration images are training images without augmentation, always the same in the same order.

    Args:
        num_classes: number of labels.
        in_channels: C.
        image_size: H and W in pixels.
        settings: the common settings.

    Example:
        >>> from snn_lightning.data.images import TensorImages
        >>> class Noise(ImageDataModule):
        ...     def load(self):
        ...         labels = torch.arange(40) % 2
        ...         images = TensorImages(torch.rand(40, 1, 8, 8), labels, [0.5], [0.3], lambda batch: batch)
        ...         return images, None, images
        >>> data = Noise(2, in_channels=1, image_size=8, settings=DataSettings(calibration_images=16))
        >>> images, labels = next(iter(data.calibration_dataloader()))
        >>> images.shape, labels.shape
        (torch.Size([16, 1, 8, 8]), torch.Size([16]))
    """

    class_names: list[str] | None = None
    """What the labels mean, where the data say it."""

    collate_fn: Callable[[list[Sample]], Any] | None = None
    """Makes a batch of samples; None stacks them."""

    mean: Sequence[float] | None = None
    """What is subtracted from each channel, in 0…1; None where the data don't say it."""

    std: Sequence[float] | None = None
    """What each channel is then divided by."""

    resize: int | None = None
    """Pixels of the shorter side before the centre is cut out; None is the image size."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, settings: DataSettings) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.image_size = image_size
        self.settings = settings
        self.batch_size = settings.batch_size
        self._sets: dict[str, Dataset[Sample]] | None = None

    @abstractmethod
    def load(self) -> tuple[Images, Images | None, Images]:
        """Read the training, validation and test set without augmentation.

        Without a validation set (None) a part of the training set becomes one; it must be `LabelledImages`.
        """

    def setup(self, stage: str | None = None) -> None:
        """Read and split the data, once."""
        if self._sets is not None:
            return
        settings = self.settings
        train, val, test = self.load()
        if val is None:
            val, labels = train, cast(LabelledImages, train).labels
            train_part, val_part = stratified_split(labels, settings.val_fraction, "data.val_fraction")
        else:
            train_part, val_part = torch.arange(len(train)), torch.arange(len(val))
        train_part = limit(train_part, settings.train_images, "data.train_images")
        test_part = limit(torch.arange(len(test)), settings.test_images, "data.test_images")
        fed = train.augmented(settings.seed + 1) if settings.augment else train
        self._sets = {
            "train": _subset(fed, train_part),
            "val": _subset(val, val_part),
            "test": _subset(test, test_part),
        }
        self._calibration = train, train_part

    def plain_transform(self) -> Callable[[Any], Tensor]:
        """What makes an image file, decoded by PIL, one of these images without augmentation: `[C, H, W]`.

        Raises:
            SettingsError: mean and standard deviation of the images aren't known.
        """
        if self.mean is None or self.std is None:
            name = type(self).__name__
            raise SettingsError(f"{name} doesn't say how its images are normalised: set its mean and std")
        size = self.image_size
        return v2.Compose(
            [v2.Resize(self.resize or size), v2.CenterCrop(size), *normalisation(self.mean, self.std)]
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Training batches in an order given by the seed; a last batch that is not full is left out."""
        count = len(cast(Any, self._set("train")))
        return self.loader(self._set("train"), shuffle=True, drop_last=count >= self.settings.batch_size)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Validation batches."""
        return self.loader(self._set("val"))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Test batches."""
        return self.loader(self._set("test"))

    def predict_dataloader(self) -> DataLoader[Sample]:
        """The test batches, for `Trainer.predict`."""
        return self.loader(self._set("test"))

    def calibration_dataloader(self) -> DataLoader[Sample]:
        """Calibration batches: training images, not augmented, always the same ones in the same order.

        Raises:
            SettingsError: there are fewer than wanted.
        """
        images = self.calibration_set()
        return self.loader(images, batch_size=self.settings.calibration_batch_size)

    def calibration_set(self, count: int | None = None) -> Dataset[Sample]:
        """The images of `calibration_dataloader` one by one; with `count` so many, in the same order.

        Raises:
            SettingsError: there are fewer than wanted.
        """
        self.setup()
        images, positions = self._calibration
        field = "data.calibration_images" if count is None else "the real part of data.calibration_images"
        if count is None:
            count = self.settings.calibration_images
        count = min(ENOUGH, len(positions)) if count is None else count
        return _subset(images, draw(positions, count, self.settings.calibration_seed_used, field))

    def _set(self, part: str) -> Dataset[Sample]:
        self.setup()
        assert self._sets is not None
        return self._sets[part]

    def loader(self, images: Dataset[Any], **options: Any) -> DataLoader[Any]:
        """Batches of images; `options` are DataLoader's, on top of those of the settings."""
        workers = self.settings.num_workers
        # A loader without a generator of its own draws from the global one, whatever it loads.
        generator = torch.Generator().manual_seed(self.settings.seed)
        options = {"batch_size": self.settings.batch_size, "collate_fn": self.collate_fn, **options}
        return DataLoader(
            images,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=generator,
            **options,
        )


def _subset(images: Images, positions: torch.Tensor) -> Subset[Sample]:
    return Subset(cast(Dataset[Sample], images), positions.tolist())
