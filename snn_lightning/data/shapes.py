"""Drawn shapes to detect and segment: nothing to download."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from snn_lightning.data.coco import TRAIN, VAL, CocoDetection
from snn_lightning.data.contours import outlines
from snn_lightning.data.drawing import SHAPES, Picture, draw_picture
from snn_lightning.data.images import Images
from snn_lightning.files import fingerprint, writing
from snn_lightning.settings import check_whole

VERSION = 1
"""Counts the changes of what is drawn for the same settings."""

CATEGORIES = dict(zip((2, 3, 5, 7, 11), SHAPES, strict=True))
"""COCO's ids have gaps too."""

SMALLEST = 16


class Shapes(CocoDetection):
    """Circles, rings, squares, stars and triangles on cluttered backgrounds, one to five a picture.

    They differ in size, rotation, colour and texture and partly cover each other; the visible part counts.
    One picture in three is square, the others are a quarter higher or wider. The first time they are drawn
    into a folder of COCO's layout below `root`, and found there later.

    Args:
        root: where the folder of the pictures lies or is made.
        images: number of training pictures, of which `val_fraction` validate.
        test_size: number of test pictures.
        image_size: shorter side of the pictures; with `target="masks"` all are cut to squares of it.
        draw_seed: gives other pictures; `seed` doesn't.
        target: see `CocoDetection`.
        settings: see `DataSettings`.

    Example:
        >>> data = Shapes("data", images=20, test_size=4, image_size=32, calibration_images=8)
        >>> images, targets = next(iter(data.calibration_dataloader()))
        >>> len(images), images[0].shape[0], data.num_classes
        (8, 3, 6)
    """

    def __init__(
        self,
        root: str | Path = "data",
        *,
        images: int = 600,
        test_size: int = 200,
        image_size: int = 128,
        draw_seed: int = 0,
        target: str = "boxes",
        **settings: Any,
    ) -> None:
        check_whole("data.images", images)
        check_whole("data.test_size", test_size)
        check_whole("data.image_size", image_size, least=SMALLEST)
        check_whole("data.draw_seed", draw_seed, least=0)
        self.parts = {TRAIN: images, VAL: test_size}
        self.draw_seed = draw_seed
        drawn = {"version": VERSION, "size": image_size, "seed": draw_seed, **self.parts}
        self.drawn = fingerprint([json.dumps(drawn).encode()])
        defaults = {"num_workers": 0, "val_fraction": 0.1}
        folder = Path(root) / f"shapes-{self.drawn}"
        super().__init__(folder, target=target, image_size=image_size, **{**defaults, **settings})

    def read_class_names(self) -> list[str]:
        """Name the labels; nothing is drawn for that."""
        return ["background", *SHAPES]

    def load(self) -> tuple[Images, Images, Images]:
        """Draw the pictures if they aren't there, and list them."""
        draw_shapes(self.root, self.parts, self.image_size, self.draw_seed)
        return super().load()

    def files_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with what is drawn."""
        return self.drawn


def draw_shapes(folder: Path, parts: dict[str, int], size: int, seed: int) -> None:
    """Draw a data set of COCO's layout into a folder, all of it or nothing, unless the folder is there.

    Several processes may want the same folder: one draws, the others wait.

    Args:
        folder: to be made.
        parts: number of pictures of each part.
        size: shorter side of the pictures in pixels.
        seed: of the pictures.

    Raises:
        CheckpointError: the disk is full or the folder can't be written.

    Example:
        >>> draw_shapes(Path("shapes"), {"val2017": 2}, size=32, seed=0)
        >>> sorted(path.name for path in Path("shapes").rglob("*.j*"))
        ['000000000001.jpg', '000000000002.jpg', 'instances_val2017.json']
    """
    if folder.is_dir():
        return
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if folder.is_dir():
                return
            unfinished = folder.with_name(f".{folder.name}.part")
            shutil.rmtree(unfinished, ignore_errors=True)  # a killed process left it
            (unfinished / "annotations").mkdir(parents=True)
            for number, (part, count) in enumerate(parts.items()):
                (unfinished / part).mkdir()
                content = _draw_part(unfinished / part, count, size, (seed, number))
                (unfinished / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
            unfinished.rename(folder)


def _draw_part(folder: Path, count: int, size: int, seed: tuple[int, int]) -> dict[str, Any]:
    """Write pictures, and return their annotations."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in range(1, count + 1):
        # A stream for each picture: the first ones are the same, however many are drawn.
        picture = draw_picture(np.random.default_rng([*seed, image]), size)
        height, width, _ = picture.pixels.shape
        name = f"{image:012d}.jpg"
        Image.fromarray(picture.pixels).save(folder / name, quality=95)
        images.append({"id": image, "file_name": name, "width": width, "height": height})
        for entry in _annotations(picture):
            annotations.append({"id": len(annotations) + 1, "image_id": image, **entry})
    categories = [{"id": category, "name": name} for category, name in CATEGORIES.items()]
    info = {"description": "shapes drawn by snn_lightning", "version": str(VERSION)}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _annotations(picture: Picture) -> list[dict[str, Any]]:
    ids = list(CATEGORIES)
    found = []
    for shape, mask in zip(picture.shapes, picture.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        found.append(
            {
                "category_id": ids[shape],
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                "area": int(mask.sum()),
                "segmentation": outlines(mask),
                "iscrowd": 0,
            }
        )
    return found
