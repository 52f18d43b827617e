import json
import multiprocessing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_lightning.data import Shapes, shapes
from snn_lightning.data.annotations import read_annotations
from snn_lightning.data.drawing import SHAPES, SIZES, VISIBLE, Picture, draw_picture
from snn_lightning.data.shapes import CATEGORIES, draw_shapes
from snn_lightning.errors import CheckpointError, SettingsError

SMALL: dict[str, Any] = {"images": 12, "test_size": 5, "image_size": 32}
PARTS = {"train2017": 3, "val2017": 2}


def pictures(count: int, size: int) -> list[Picture]:
    return [draw_picture(np.random.default_rng(seed), size) for seed in range(count)]


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_picture_has_one_to_five_shapes_of_three_formats() -> None:
    drawn = pictures(60, 32)
    assert {picture.pixels.shape for picture in drawn} == {(32, 32, 3), (40, 32, 3), (32, 40, 3)}
    assert {len(picture.shapes) for picture in drawn} == {1, 2, 3, 4, 5}
    assert {shape for picture in drawn for shape in picture.shapes} == set(range(len(SHAPES)))
    assert all(picture.pixels.dtype == np.uint8 for picture in drawn)


def test_shapes_overlap_and_each_pixel_is_of_one() -> None:
    drawn = pictures(40, 64)
    for picture in drawn:
        assert np.sum(picture.masks, 0).max() == 1
        assert all(mask.sum() > 0 for mask in picture.masks)
    alone = [p.masks[0].sum() for p in drawn if p.shapes == [SHAPES.index("square")]]
    assert all(area <= (64 * SIZES[1]) ** 2 for area in alone)


def test_a_shape_keeps_most_of_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[float] = []

    def silhouette(random: np.random.Generator, shape: int, extent: float) -> np.ndarray:
        side = round(extent)
        whole.append(side * side)
        return np.ones((side, side))

    monkeypatch.setattr("snn_lightning.data.drawing._silhouette", silhouette)
    shares = []
    for seed in range(30):
        whole.clear()
        picture = draw_picture(np.random.default_rng(seed), 32)
        if len(picture.masks) == len(whole):
            shares += [mask.sum() / area for mask, area in zip(picture.masks, whole, strict=True)]
    assert VISIBLE <= min(shares) < max(shares) == 1


def test_shapes_stand_out_from_what_they_cover() -> None:
    for picture in pictures(20, 64):
        background = picture.pixels[~np.any(picture.masks, 0)].mean(0)
        colours = [picture.pixels[mask].mean(0) for mask in picture.masks]
        assert np.mean([np.abs(colour - background).sum() for colour in colours]) > 60


def test_files_are_in_cocos_format(tmp_path: Path) -> None:
    data = Shapes(tmp_path, **SMALL)
    data.setup()
    found = read_annotations(data.root, "train2017")
    assert len(found.images) == 12
    assert found.class_names == data.class_names == ["background", *SHAPES]
    assert list(found.categories) == list(CATEGORIES) != list(range(1, 6))
    for image, objects in found.objects.items():
        assert objects
        picture = draw_picture(np.random.default_rng([0, 0, image]), 32)
        for entry, mask, shape in zip(objects, picture.masks, picture.shapes, strict=True):
            assert found.categories[entry["category_id"]] == SHAPES[shape]
            painted = found.coco.annToMask(entry).astype(bool)
            assert np.array_equal(painted, mask)
            rows, columns = painted.nonzero()
            left, top, width, height = entry["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
            assert (entry["area"], entry["iscrowd"]) == (painted.sum(), 0)


def test_batches_for_detectors_and_for_segmentation(tmp_path: Path) -> None:
    boxes, masks = (Shapes(tmp_path, **SMALL, target=target, batch_size=5) for target in ("boxes", "masks"))
    assert boxes.root == masks.root
    images, targets = next(iter(boxes.test_dataloader()))
    assert {tuple(image.shape) for image in images} == {(3, 32, 32), (3, 40, 32), (3, 32, 40)}
    assert all(1 <= len(target["boxes"]) <= 5 for target in targets)
    x, y = next(iter(masks.test_dataloader()))
    assert (tuple(x.shape), tuple(y.shape)) == ((5, 3, 32, 32), (5, 32, 32))
    assert set(y.unique().tolist()) <= set(range(6))
    assert 0.5 < (y == 0).float().mean() < 0.95


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw_shapes(tmp_path / name, PARTS, 32, seed=1)
    draw_shapes(tmp_path / "other", PARTS, 32, seed=2)
    draw_shapes(tmp_path / "more", {**PARTS, "train2017": 4}, 32, seed=1)
    one, two, other, more = (contents(tmp_path / name) for name in ("one", "two", "other", "more"))
    assert one == two
    assert len(one) == 7
    assert all(one[name] != other[name] for name in one)
    pictures = [name for name in one if name.endswith(".jpg")]
    assert [one[name] for name in pictures] == [more[name] for name in pictures]
    assert len(set(one.values())) == 7


def test_each_drawing_has_its_own_folder_and_the_runs_seed_none(tmp_path: Path) -> None:
    def folder(**changes: Any) -> str:
        data = Shapes(tmp_path, **{**SMALL, **changes})
        assert data.files_fingerprint() in data.root.name
        return data.root.name

    names = [folder(), folder(images=13), folder(test_size=6), folder(image_size=33), folder(draw_seed=1)]
    assert len(set(names)) == 5
    assert folder(seed=1, augment=False, batch_size=2) == names[0]
    assert list(tmp_path.iterdir()) == []


def test_seeds_see_the_same_pictures_in_another_order(tmp_path: Path) -> None:
    def shown(seed: int, part: str) -> list[int]:
        loader = getattr(Shapes(tmp_path, **SMALL, seed=seed, batch_size=2), f"{part}_dataloader")()
        return [target["image_id"] for _, targets in loader for target in targets]

    assert shown(0, "val") == shown(1, "val")
    assert sorted(shown(0, "train")) == sorted(shown(1, "train"))
    assert shown(0, "calibration") != shown(1, "calibration")


def test_what_is_drawn_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Shapes(tmp_path, **SMALL).setup()
    monkeypatch.setattr(shapes, "draw_picture", None)
    assert len(Shapes(tmp_path, **SMALL).test_dataloader()) == 1


def test_a_killed_drawing_leaves_nothing_and_is_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def killed(random: np.random.Generator, size: int) -> Picture:
        drawn.append(size)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw_picture(random, size)

    folder = tmp_path / "shapes"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(shapes, "draw_picture", killed)
        draw_shapes(folder, PARTS, 32, seed=0)
    assert not folder.exists()
    (tmp_path / ".shapes.part" / "annotations" / "half").write_text("")
    draw_shapes(folder, PARTS, 32, seed=0)
    draw_shapes(tmp_path / "whole", PARTS, 32, seed=0)
    assert contents(folder) == contents(tmp_path / "whole")
    assert not (tmp_path / ".shapes.part").exists()


def test_several_processes_draw_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "shapes", PARTS, 32, 0)
    processes = [context.Process(target=draw_shapes, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    draw_shapes(tmp_path / "whole", PARTS, 32, seed=0)
    assert contents(tmp_path / "shapes") == contents(tmp_path / "whole")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Could not write '.*shapes-.*'.*choose another folder"):
        Shapes(tmp_path / "file", **SMALL).setup()


def test_a_drawn_set_is_read_without_a_right_to_write(tmp_path: Path) -> None:
    data = Shapes(tmp_path, **SMALL)
    data.setup()
    (tmp_path / f".{data.root.name}.lock").unlink(missing_ok=True)
    again = Shapes(tmp_path, **SMALL)
    again.setup()
    assert [path.name for path in tmp_path.iterdir()] == [data.root.name]


def test_annotations_name_their_source(tmp_path: Path) -> None:
    draw_shapes(tmp_path / "shapes", PARTS, 32, seed=0)
    content = json.loads((tmp_path / "shapes/annotations/instances_val2017.json").read_text())
    assert content["info"]["version"] == str(shapes.VERSION)
    assert [image["id"] for image in content["images"]] == [1, 2]
    numbers = [entry["id"] for entry in content["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 0}, r"data\.images must be a whole number of at least 1, got 0"),
        ({"test_size": 0}, r"data\.test_size must be a whole number of at least 1, got 0"),
        ({"image_size": 15}, r"data\.image_size must be a whole number of at least 16, got 15"),
        ({"draw_seed": -1}, r"data\.draw_seed must be a whole number of at least 0, got -1"),
        ({"target": "points"}, r"data\.target must be 'boxes' or 'masks'"),
        ({"imagesize": 32}, r"unknown setting of data: 'imagesize'"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Shapes(tmp_path, **{**SMALL, **settings})


def test_drawing_leaves_the_global_random_streams_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    Shapes(tmp_path, **SMALL).setup()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], state)
