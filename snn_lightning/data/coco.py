"""COCO, or any images annotated in its format, for object detection and semantic segmentation."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from snn_lightning.data.annotations import Annotations, check_same_categories, places, read_annotations
from snn_lightning.data.coco_images import BoxImages, MaskImages, as_lists, is_crowd
from snn_lightning.data.datamodule import ImageDataModule
from snn_lightning.data.imagenet import MEAN, STD
from snn_lightning.data.images import Images, Sample, read_image
from snn_lightning.data.settings import DataSettings
from snn_lightning.data.splits import random_split
from snn_lightning.errors import ImageError, SettingsError, few
from snn_lightning.files import fingerprint
from snn_lightning.settings import check_choice, check_whole

TRAIN, VAL = "train2017", "val2017"


class CocoDetection(ImageDataModule):
    """Images in `root/train2017` and `root/val2017`, annotated in `root/annotations/instances_….json`.

    `val2017` is the test set; the validation images are taken from the training set. With `target="boxes"` a
    batch is `(images, targets)` for torchvision's detectors: a list of `[3, H, W]` in 0…1, of any sizes, and
    a list of dicts (see `BoxImages`). With `target="masks"` it is `(x [N, 3, S, S] normalised, y [N, S, S]
    int64)` for semantic segmentation (see `MaskImages`).

    Images without objects are left out of training and calibration, and so are boxes around crowds;
    validation and test have both. A training set without any object still calibrates. Augmentation mirrors.

    `num_classes` counts the background, as torchvision does: K categories in the order of their ids are the
    labels 1…K, label 0 is the background.

    Args:
        root: the folder that holds `train2017`, `val2017` and `annotations`.
        target: "boxes" or "masks".
        image_size: S of the squares; images with boxes keep their sizes, which detectors change themselves.
        skip_unreadable: leave out images that are missing or can't be decoded, with a warning, instead of
            refusing them; all images are decoded once for that.
        settings: see `DataSettings`.

    Raises:
        SettingsError: the files aren't as above.

    Example:
        >>> from snn_lightning.data import Shapes
        >>> drawn = Shapes("data", images=12, test_size=4, image_size=32)
        >>> drawn.setup()
        >>> data = CocoDetection(drawn.root, val_fraction=0.25, batch_size=2, num_workers=0)
        >>> data.class_names
        ['background', 'circle', 'ring', 'square', 'star', 'triangle']
        >>> images, targets = next(iter(data.test_dataloader()))
        >>> [image.shape[0] for image in images], sorted(targets[0])
        ([3, 3], ['area', 'boxes', 'image_id', 'iscrowd', 'labels'])
    """

    def __init__(
        self,
        root: str | Path,
        *,
        target: str = "boxes",
        image_size: int = 512,
        skip_unreadable: bool = False,
        **settings: Any,
    ) -> None:
        check_choice("data.target", target, ("boxes", "masks"))
        check_whole("data.image_size", image_size)
        self.root = Path(root)
        self.target = target
        self.skip_unreadable = skip_unreadable
        self._test: Annotations | None = None
        self._empty: Path | None = None
        names = self.read_class_names()
        defaults = {"batch_size": 8, "num_workers": 4, "val_fraction": 0.02, "calibration_images": None}
        defaults["calibration_batch_size"] = 8
        super().__init__(len(names), 3, image_size, DataSettings.of(settings, **defaults))
        self.class_names = names
        self.collate_fn = as_lists if target == "boxes" else None
        self.mean, self.std = (MEAN, STD) if target == "masks" else ((0.0,) * 3, (1.0,) * 3)

    def read_class_names(self) -> list[str]:
        """Read the names of the labels from the annotations of the test set, the smaller file."""
        self._test = read_annotations(self.root, VAL)
        return self._test.class_names

    def load(self) -> tuple[Images, Images, Images]:
        """Read the annotations, and hold validation images back."""
        test = read_annotations(self.root, VAL) if self._test is None else self._test
        train = read_annotations(self.root, TRAIN)
        check_same_categories(train, test)
        ids = self._usable(train)
        fed, held = random_split(len(ids), self.settings.val_fraction, "data.val_fraction")
        fed_ids, held_ids = ([ids[position] for position in part.tolist()] for part in (fed, held))
        with_objects = [image for image in fed_ids if not all(map(is_crowd, train.objects[image]))]
        self._empty = None if with_objects else train.file
        return (
            self._images(train, with_objects or fed_ids, crowds=False),
            self._images(train, held_ids),
            self._images(test, self._usable(test)),
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Training batches; see `ImageDataModule`.

        Raises:
            SettingsError: no training image has an object.
        """
        loader = super().train_dataloader()
        if self._empty is not None:
            raise SettingsError(
                f"data.root: no image is left to train on: none has an object in {self._empty} that is no "
                "crowd and has an area; annotate some"
            )
        return loader

    def files_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the training annotations, image names and sizes."""
        folder, file = places(self.root, TRAIN)
        images = sorted(path for path in folder.rglob("*") if path.is_file())
        sizes = (f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0" for path in images)
        return fingerprint([*map(str.encode, sizes), file.read_bytes()])

    def _images(self, annotations: Annotations, ids: list[Any], crowds: bool = True) -> Images:
        if self.target == "masks":
            return MaskImages(annotations, ids, self.image_size)
        return BoxImages(annotations, ids, crowds)

    def _usable(self, annotations: Annotations) -> list[Any]:
        """Return the ids of the images there are."""
        ids, paths = list(annotations.images), map(annotations.path, annotations.images)
        if self.skip_unreadable:
            with ThreadPoolExecutor() as pool:
                good = list(pool.map(_is_readable, paths))
        else:
            good = [path.is_file() for path in paths]
        bad = [annotations.path(image).name for image, fine in zip(ids, good, strict=True) if not fine]
        if bad:
            self._report(annotations, bad, len(ids))
        return [image for image, fine in zip(ids, good, strict=True) if fine]

    def _report(self, annotations: Annotations, bad: list[str], count: int) -> None:
        which = f"{len(bad)} of the {count} images in {annotations.file}"
        if not self.skip_unreadable:
            raise SettingsError(
                f"data.root: {which} aren't in {annotations.folder} ({few(bad)}): put them there, or leave "
                "them out by data.skip_unreadable=true"
            )
        if len(bad) == count:
            raise SettingsError(
                f"data.root: none of the images in {annotations.file} can be read from {annotations.folder} "
                f"({few(bad)}): put them there"
            )
        warnings.warn(
            f"{which} can't be read from {annotations.folder} and are left out ({few(bad)})", stacklevel=2
        )


def _is_readable(path: Path) -> bool:
    try:
        read_image(str(path), "RGB")
    except ImageError:
        return False
    return True
