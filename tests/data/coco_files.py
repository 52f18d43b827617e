"""Tiny data sets in COCO's format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = {4: "cat", 9: "dog"}
SIZES = ((12, 8), (8, 10))
"""Width and height of every other image."""


def write_coco(root: Path, train: int = 6, test: int = 4, boxes: int = 2) -> Path:
    """Write images of two sizes, each with as many boxes, a cat and a dog in turn; give `root`.

    Image i, from 1, is grey of level 10 i. Its box b is `[1 + b, 2, 3, 4]`, and the polygon covers all of it.
    """
    for part, count in (("train2017", train), ("val2017", test)):
        annotations = [
            annotation(10 * image + b, image, [1 + b, 2, 3, 4], category=(4, 9)[b % 2])
            for image in range(1, count + 1)
            for b in range(boxes)
        ]
        write_part(root, part, [(i, *SIZES[i % 2]) for i in range(1, count + 1)], annotations)
    return root


def write_part(
    root: Path,
    part: str,
    images: list[tuple[int, int, int]],
    annotations: list[dict[str, Any]],
    categories: dict[int, str] = CATEGORIES,
) -> Path:
    """Write grey images of (id, width, height) and their annotations; give the annotation file."""
    folder = root / part
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for image, width, height in images:
        name = f"{image:04d}.png"
        Image.fromarray(np.full((height, width, 3), 10 * image % 256, dtype=np.uint8)).save(folder / name)
        entries.append({"id": image, "file_name": name, "width": width, "height": height})
    file = root / "annotations" / f"instances_{part}.json"
    file.parent.mkdir(exist_ok=True)
    listed = [{"id": category, "name": name} for category, name in categories.items()]
    file.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": listed}))
    return file


def annotation(
    number: int, image: int, box: list[float], category: int = 4, crowd: bool = False, **more: Any
) -> dict[str, Any]:
    """An object that fills its box."""
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    entry = {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": width * height}
    return {**entry, "segmentation": [polygon], "iscrowd": int(crowd), **more}
