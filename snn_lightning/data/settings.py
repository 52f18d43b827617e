"""The settings all data modules share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.settings import check_whole


@dataclass(frozen=True)
class DataSettings:
    """How the images of a data set are split, batched and augmented.

    `seed` chooses the order of training, the augmentation and, where `calibration_seed` is None, the
    calibration images. The splits and subsets never depend on a seed, so that results of several seeds are
    about the same images.

    Args:
        batch_size: images a batch in training, validation and test.
        num_workers: loader processes; 0 loads in the main process.
        calibration_images: how many training images calibrate; None takes 256, or all where there are fewer.
        calibration_batch_size: images a batch in calibration.
        val_fraction: part of the training set that becomes the validation set.
        seed: see above.
        calibration_seed: chooses the calibration images.
        augment: whether training images are augmented.
        train_images: keep so many training images (after the validation images were taken); None keeps all.
        test_images: keep so many test images; None keeps all.

    Example:
        >>> DataSettings(batch_size=32).calibration_images
        256
        >>> DataSettings(batch_size=0)
        Traceback (most recent call last):
        snn_lightning.errors.SettingsError: data.batch_size must be a whole number of at least 1, got 0
    """

    batch_size: int = 128
    num_workers: int = 0
    calibration_images: int | None = 256
    calibration_batch_size: int = 128
    val_fraction: float = 0.1
    seed: int = 0
    calibration_seed: int | None = None
    augment: bool = True
    train_images: int | None = None
    test_images: int | None = None

    def __post_init__(self) -> None:
        for field in ("batch_size", "calibration_batch_size"):
            check_whole(f"data.{field}", getattr(self, field))
        for field in ("num_workers", "seed"):
            check_whole(f"data.{field}", getattr(self, field), least=0)
        check_whole("data.calibration_seed", self.calibration_seed, least=0, optional=True)
        for field in ("train_images", "test_images", "calibration_images"):
            check_whole(f"data.{field}", getattr(self, field), optional=True)
        if not isinstance(self.val_fraction, int | float) or not 0 < self.val_fraction < 1:
            raise SettingsError(
                f"data.val_fraction must be above 0 and below 1, got {self.val_fraction!r}: nothing can be "
                "chosen without validation images"
            )

    @property
    def calibration_seed_used(self) -> int:
        """What chooses the calibration images: `calibration_seed`, or `seed` where it is None."""
        return self.seed if self.calibration_seed is None else self.calibration_seed

    @classmethod
    def of(cls, given: Mapping[str, Any], **defaults: Any) -> "DataSettings":
        """Settings from keywords, on top of a data set's own defaults.

        Raises:
            SettingsError: a keyword that is no setting; the message names the closest one.

        Example:
            >>> DataSettings.of({"seed": 3}, batch_size=64).batch_size
            64
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise SettingsError(unknown("setting of data", name, known))
        return cls(**{**defaults, **given})


def check_channels(value: int) -> None:
    """Raise a SettingsError unless a grey image is wanted as it is (1) or repeated for three channels (3).

    Example:
        >>> check_channels(3)
    """
    if value not in (1, 3):
        raise SettingsError(f"data.in_channels must be 1 or 3, got {value!r}")
