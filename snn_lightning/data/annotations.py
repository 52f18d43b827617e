"""What a COCO annotation file says, checked."""

import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torchvision.datasets import CocoDetection

from snn_lightning.errors import SettingsError, few

MARGIN = 1.0
"""So many pixels a box may stick out of its image: rounding, which is cut off."""

THINNEST = 0.01
"""A box of less width or height has no area: in float32 its corners may be one."""

LAYOUT = "train2017/, val2017/, annotations/instances_train2017.json and annotations/instances_val2017.json"


@dataclass(frozen=True)
class Annotations:
    """Images and their objects.

    Args:
        folder: of the image files.
        file: the annotation file, for messages.
        coco: pycocotools' index of the file, which paints masks.
        images: each image's entry by its id, ascending.
        objects: each image's annotations by its id; their boxes lie in the image and have an area.
        categories: names by id, ascending.
    """

    folder: Path
    file: Path
    coco: Any
    images: Mapping[Any, Mapping[str, Any]]
    objects: Mapping[Any, list[dict[str, Any]]]
    categories: Mapping[int, str]

    @property
    def class_names(self) -> list[str]:
        """The name of each label; label 0 is the background."""
        return ["background", *self.categories.values()]

    def path(self, image: Any) -> Path:
        """The file of an image."""
        return self.folder / self.images[image]["file_name"]


def places(root: Path, part: str) -> tuple[Path, Path]:
    """Return the folder of the images of a part, such as "val2017", and its annotation file.

    Raises:
        SettingsError: one of them is missing.
    """
    folder, file = root / part, root / "annotations" / f"instances_{part}.json"
    for path, exists in ((folder, folder.is_dir()), (file, file.is_file())):
        if not exists:
            raise SettingsError(
                f"data.root: there is no {path}; set data.root to the folder that holds {LAYOUT}"
            )
    return folder, file


def read_annotations(root: Path, part: str) -> Annotations:
    """Read the annotations of `root/part` from `root/annotations/instances_part.json`.

    Boxes without area are dropped with a warning, as COCO has a few.

    Raises:
        SettingsError: pycocotools, a folder or the file is missing, the file isn't in COCO's format, or an
            annotation contradicts its image or the categories.
    """
    folder, file = places(root, part)
    try:
        with redirect_stdout(io.StringIO()):  # pycocotools says how long it took
            coco = CocoDetection(folder, str(file)).coco
        images, categories = (_by_id(coco.dataset[key]) for key in ("images", "categories"))
        sizes = {image: _size(entry) for image, entry in images.items()}
        names = {category: str(entry["name"]) for category, entry in categories.items()}
        boxes = [_box(entry) for entry in coco.dataset["annotations"]]
    except ModuleNotFoundError as error:
        raise SettingsError(
            "COCO annotations need pycocotools: pip install 'snn_lightning[detection]'"
        ) from error
    except Exception as error:  # of many types: json's, KeyError, AssertionError, ...
        reason = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise SettingsError(
            f"data.root: {file} isn't in COCO's format ({reason}): it must be JSON with the lists images "
            "(id, file_name, width, height), annotations (id, image_id, category_id, bbox) and categories "
            "(id, name)"
        ) from error
    if not images or not categories:
        raise SettingsError(f"data.root: {file} lists no {'categories' if images else 'images'}: add them")
    objects: dict[Any, list[dict[str, Any]]] = {image: [] for image in images}
    flat = []
    for entry, box in zip(coco.dataset["annotations"], boxes, strict=True):
        size = sizes.get(entry["image_id"])
        problem = _problem(entry, box, size, names)
        if problem:
            name = f" ({images[entry['image_id']]['file_name']})" if size else ""
            place = f"annotation {entry['id']} of image {entry['image_id']}{name}"
            raise SettingsError(f"data.root: {file}: {place}: {problem}")
        inside = _inside(box, cast(tuple[int, int], size))
        if min(inside[2:]) >= THINNEST:
            objects[entry["image_id"]].append({**entry, "bbox": inside})
        else:
            flat.append(str(entry["id"]))
    if flat:
        warnings.warn(
            f"{len(flat)} of {len(boxes)} boxes in {file} have no area and are dropped (annotations "
            f"{few(flat)})",
            stacklevel=2,
        )
    return Annotations(folder, file, coco, images, objects, names)


def check_same_categories(one: Annotations, other: Annotations) -> None:
    """Refuse two files whose category ids or names differ.

    Raises:
        SettingsError: they do.
    """
    differing = one.categories.items() ^ other.categories.items()
    if differing:
        names = few([f"{key}: {name}" for key, name in sorted(differing)])
        raise SettingsError(
            f"data.root: {one.file} and {other.file} have different categories ({names}): give both the same "
            "list, with the same ids and names"
        )


def _by_id(entries: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Return the entries by their ids, ascending."""
    found: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        if entry["id"] in found:
            raise ValueError(f"id {entry['id']} stands twice in one list")
        found[entry["id"]] = entry
    return dict(sorted(found.items()))


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """Return an image's width and height."""
    width, height, name = image["width"], image["height"], image["file_name"]
    if not (isinstance(width, int) and isinstance(height, int) and isinstance(name, str)):
        raise TypeError(f"image {image['id']} has file_name {name!r}, width {width!r}, height {height!r}")
    return width, height


def _box(annotation: dict[str, Any]) -> list[float]:
    box = [float(value) for value in annotation["bbox"]]
    if len(box) != 4 or not {"image_id", "category_id"} <= annotation.keys():
        raise ValueError(f"annotation {annotation['id']} lacks image_id, category_id or a box of 4 numbers")
    return box


def _problem(
    annotation: dict[str, Any], box: list[float], size: tuple[int, int] | None, categories: Mapping[int, str]
) -> str | None:
    """Say why an annotation can't be used."""
    category = annotation["category_id"]
    if size is None:
        return "there is no such image in the list images: add it, or delete the annotation"
    if category not in categories:
        return f"category {category} isn't in the list categories: add it, or correct the annotation"
    (x, y, width, height), (columns, rows) = box, size
    # A NaN compares as false.
    within_x = -MARGIN <= x <= x + width <= columns + MARGIN
    within_y = -MARGIN <= y <= y + height <= rows + MARGIN
    if within_x and within_y:
        return None
    return (
        f"the box {box} isn't within its image of {columns}x{rows} pixels: correct it ([x, y, width, "
        "height] in pixels), or delete the annotation"
    )


def _inside(box: list[float], size: tuple[int, int]) -> list[float]:
    """Cut off what sticks out of the image."""
    (x, y, width, height), (columns, rows) = box, size
    left, top = max(x, 0.0), max(y, 0.0)
    return [left, top, min(x + width, columns) - left, min(y + height, rows) - top]
