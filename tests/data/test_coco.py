import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from snn_lightning.data import CocoDetection
from snn_lightning.data.coco_images import BoxImages, MaskImages
from snn_lightning.data.imagenet import MEAN, STD
from snn_lightning.errors import ImageError, SettingsError

from .coco_files import annotation, write_coco, write_part

SMALL: dict[str, Any] = {"num_workers": 0, "batch_size": 1, "val_fraction": 0.3, "augment": False}
TRAIN, VAL = "train2017", "val2017"


def written(root: Path, *annotations: dict[str, Any], size: tuple[int, int] = (12, 8), **more: Any) -> Path:
    """A training set of the usual six images, and one test image with some annotations; gives its file."""
    write_coco(root)
    return write_part(root, VAL, [(1, *size)], list(annotations), **more)


def changed(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def targets(loader: DataLoader) -> list[dict[str, Any]]:
    return [target for _, batch in loader for target in batch]


def ids(loader: DataLoader) -> list[int]:
    return [target["image_id"] for target in targets(loader)]


def first(data: CocoDetection) -> tuple[Tensor, dict[str, Any]]:
    images, batch = next(iter(data.test_dataloader()))
    return images[0], batch[0]


def test_boxes_are_corners_and_labels_are_contiguous(tmp_path: Path) -> None:
    written(
        tmp_path,
        annotation(7, 1, [1, 2, 3.5, 4], category=9, area=11.5),
        annotation(8, 1, [0, 0, 12, 8], category=4, crowd=True),
    )
    data = CocoDetection(tmp_path, **SMALL)
    image, target = first(data)
    assert torch.equal(image, torch.full((3, 8, 12), 10 / 255))
    assert target["boxes"].tolist() == [[1, 2, 4.5, 6], [0, 0, 12, 8]]
    assert target["labels"].tolist() == [2, 1]
    assert target["area"].tolist() == [11.5, 96]
    assert target["iscrowd"].tolist() == [0, 1]
    assert (target["labels"].dtype, target["boxes"].dtype, target["image_id"]) == (
        torch.int64,
        torch.float32,
        1,
    )
    assert (data.class_names, data.num_classes, data.in_channels) == (["background", "cat", "dog"], 3, 3)


def test_images_of_two_sizes_are_one_batch(tmp_path: Path) -> None:
    data = CocoDetection(write_coco(tmp_path), **{**SMALL, "batch_size": 4})
    images, batch = next(iter(data.test_dataloader()))
    assert [tuple(image.shape) for image in images] == [(3, 10, 8), (3, 8, 12)] * 2
    assert [target["image_id"] for target in batch] == [1, 2, 3, 4]


def test_an_image_without_boxes_is_tested(tmp_path: Path) -> None:
    written(tmp_path)
    _, target = first(CocoDetection(tmp_path, **SMALL))
    assert {key: tuple(target[key].shape) for key in ("boxes", "labels", "area", "iscrowd")} == {
        "boxes": (0, 4),
        "labels": (0,),
        "area": (0,),
        "iscrowd": (0,),
    }


def test_a_flip_mirrors_boxes_and_pixels(tmp_path: Path) -> None:
    written(tmp_path, annotation(7, 1, [1, 2, 3, 4]), annotation(8, 1, [8, 0, 4, 8], category=9))
    data = CocoDetection(tmp_path, **SMALL)
    *_, test = data.load()
    assert isinstance(test, BoxImages)
    pixels = torch.arange(3 * 8 * 12, dtype=torch.uint8).reshape(3, 8, 12)
    image, target = test.sample(pixels, 1, flip=True)
    assert torch.equal(image, pixels.flip(2) / 255)
    assert target["boxes"].tolist() == [[8, 2, 11, 6], [0, 0, 4, 8]]
    assert target["labels"].tolist() == [1, 2]


def test_augmentation_flips_about_half_by_the_seed_and_in_training_only(tmp_path: Path) -> None:
    write_coco(tmp_path, train=100, test=1, boxes=1)

    def lefts(seed: int, augment: bool) -> list[float]:
        data = CocoDetection(tmp_path, **{**SMALL, "augment": augment}, seed=seed)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found = [target["boxes"][0, 0].item() for target in targets(data.train_dataloader())]
        assert torch.equal(torch.get_rng_state(), before)
        calibration = {target["boxes"][0, 0].item() for target in targets(data.calibration_dataloader())}
        assert calibration == {1}
        return found

    flipped = lefts(0, True)
    assert set(flipped) == {1, 4, 8}  # mirrored in images of 8 and of 12 pixels
    assert 20 < flipped.count(1) < 50
    assert flipped == lefts(0, True) != lefts(1, True)
    assert set(lefts(0, False)) == {1}


def test_validation_images_are_held_back_and_always_the_same(tmp_path: Path) -> None:
    write_coco(tmp_path, train=10)

    def parts(seed: int) -> tuple[list[int], list[int], list[int]]:
        data = CocoDetection(tmp_path, **SMALL, seed=seed)
        return (
            sorted(ids(data.train_dataloader())),
            ids(data.val_dataloader()),
            ids(data.calibration_dataloader()),
        )

    train, val, calibration = parts(0)
    assert len(val) == 3
    assert sorted(train + val) == list(range(1, 11))
    assert sorted(calibration) == train
    assert parts(0) == (train, val, calibration)
    assert parts(1)[:2] == (train, val)
    assert parts(1)[2] != calibration
    assert len(ids(CocoDetection(tmp_path, **SMALL, calibration_images=2).calibration_dataloader())) == 2


def test_training_leaves_out_images_without_objects_and_crowds(tmp_path: Path) -> None:
    write_coco(tmp_path)
    crowds = [annotation(i, i, [4, 4, 2, 2], crowd=True) for i in range(1, 7)]
    write_part(tmp_path, TRAIN, [(i, 8, 8) for i in range(1, 10)], [*crowds, annotation(9, 4, [0, 0, 3, 3])])
    data = CocoDetection(tmp_path, **SMALL)
    held = ids(data.val_dataloader())
    assert 4 not in held
    (target,) = targets(data.train_dataloader())
    assert (target["image_id"], target["boxes"].tolist()) == (4, [[0, 0, 3, 3]])
    assert ids(data.calibration_dataloader()) == [4]
    assert {target["iscrowd"].sum().item() for target in targets(data.val_dataloader())} <= {0, 1}
    masks = CocoDetection(tmp_path, **SMALL, target="masks", image_size=8)
    (y,) = (y for _, y in masks.train_dataloader())
    assert y.unique().tolist() == [0, 1, 255]


def test_images_alone_calibrate_and_do_not_train(tmp_path: Path) -> None:
    write_coco(tmp_path, boxes=0)
    data = CocoDetection(tmp_path, **SMALL)
    assert len(ids(data.calibration_dataloader())) == 4
    with pytest.raises(
        SettingsError, match=r"no image is left to train on: none has an object in .*train2017\.json"
    ):
        data.train_dataloader()


@pytest.mark.parametrize("flip", [False, True])
def test_masks_are_painted_small_over_large_and_crowds_below(tmp_path: Path, flip: bool) -> None:
    written(
        tmp_path,
        annotation(1, 1, [1, 1, 1, 1], category=4),
        annotation(2, 1, [0, 0, 3, 2], category=9),
        annotation(3, 1, [2, 0, 2, 4], crowd=True, segmentation={"counts": [8, 8], "size": [4, 4]}),
        size=(4, 4),
    )
    data = CocoDetection(tmp_path, **SMALL, target="masks", image_size=4)
    *_, test = data.load()
    assert isinstance(test, MaskImages)
    _, mask = test.sample(torch.zeros(3, 4, 4, dtype=torch.uint8), 1, flip)
    expected = [[2, 2, 2, 255], [2, 1, 2, 255], [0, 0, 255, 255], [0, 0, 255, 255]]
    assert mask.tolist() == ([row[::-1] for row in expected] if flip else expected)


def test_a_polygon_covers_its_pixels(tmp_path: Path) -> None:
    stairs = [1, 1, 3, 1, 3, 2, 2, 2, 2, 4, 1, 4]
    written(tmp_path, annotation(1, 1, [1, 1, 2, 3], segmentation=[stairs]), size=(4, 4))
    x, y = next(iter(CocoDetection(tmp_path, **SMALL, target="masks", image_size=4).test_dataloader()))
    assert y.tolist() == [[[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0]]]
    expected = (10 / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(x, expected.reshape(1, 3, 1, 1).expand(1, 3, 4, 4))
    assert y.dtype == torch.int64


@pytest.mark.parametrize("size", [4, 8])
def test_masks_are_resized_and_cropped_with_their_images(tmp_path: Path, size: int) -> None:
    written(tmp_path, annotation(1, 1, [2, 0, 4, 8]), size=(16, 8))
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, 2:6] = 255
    Image.fromarray(pixels).save(tmp_path / VAL / "0001.png")
    x, y = next(iter(CocoDetection(tmp_path, **SMALL, target="masks", image_size=size).test_dataloader()))
    expected = torch.zeros(size, size, dtype=torch.int64)
    expected[:, : size // 4] = 1  # columns 4 to 11 of 16 are left
    assert torch.equal(y[0], expected)
    assert torch.equal(x[0, 0] > 0, y[0] == 1)


def test_masks_of_images_of_two_sizes_are_one_batch(tmp_path: Path) -> None:
    write_coco(tmp_path)
    settings = {**SMALL, "batch_size": 4, "augment": True}
    data = CocoDetection(tmp_path, **settings, target="masks", image_size=6)
    for loader in (data.train_dataloader(), data.test_dataloader(), data.calibration_dataloader()):
        x, y = next(iter(loader))
        assert (tuple(x.shape), tuple(y.shape)) == ((4, 3, 6, 6), (4, 6, 6))


def test_workers_give_the_same_batches(tmp_path: Path) -> None:
    write_coco(tmp_path)
    one, two = (CocoDetection(tmp_path, **{**SMALL, "num_workers": n}) for n in (0, 2))
    found = [[t["boxes"].tolist() for t in targets(data.test_dataloader())] for data in (one, two)]
    assert found[0] == found[1]


def test_files_fingerprint_follows_images_and_annotations(tmp_path: Path) -> None:
    write_coco(tmp_path)
    before = CocoDetection(tmp_path, **SMALL).files_fingerprint()
    assert CocoDetection(tmp_path, **SMALL).files_fingerprint() == before
    changed(tmp_path / f"annotations/instances_{TRAIN}.json", lambda content: content["annotations"].pop())
    after = CocoDetection(tmp_path, **SMALL).files_fingerprint()
    (tmp_path / TRAIN / "0001.png").unlink()
    assert len({before, after, CocoDetection(tmp_path, **SMALL).files_fingerprint()}) == 3


def test_boxes_without_area_are_dropped_with_one_warning(tmp_path: Path) -> None:
    written(
        tmp_path,
        annotation(7, 1, [1, 2, 3, 0]),
        annotation(8, 1, [1, 2, 3, 4]),
        annotation(9, 1, [12.5, 2, 0.3, 4]),
        annotation(10, 1, [1, 2, 1e-7, 4]),
    )
    with pytest.warns(
        UserWarning, match=r"3 of 4 boxes in .* have no area and are dropped \(annotations 7, 9, 10\)"
    ):
        data = CocoDetection(tmp_path, **SMALL)
    with warnings.catch_warnings(action="error"):
        assert first(data)[1]["boxes"].tolist() == [[1, 2, 4, 6]]


def test_what_sticks_out_by_a_pixel_is_cut_off(tmp_path: Path) -> None:
    written(tmp_path, annotation(7, 1, [-1, -0.5, 14, 9.5]))
    assert first(CocoDetection(tmp_path, **SMALL))[1]["boxes"].tolist() == [[0, 0, 12, 8]]


@pytest.mark.parametrize(
    "box",
    [
        [-1.1, 0, 4, 4],
        [0, 0, 13.1, 4],
        [0, 5, 4, 4.1],
        [5, 5, -2, 2],
        [30, 30, 4, 4],
        [0, 0, float("nan"), 1],
    ],
)
def test_a_box_outside_its_image_is_refused(tmp_path: Path, box: list[float]) -> None:
    written(tmp_path, annotation(7, 1, box))
    message = r"annotation 7 of image 1 \(0001\.png\): the box \[.*\] isn't within its image of 12x8 pixels"
    with pytest.raises(SettingsError, match=message):
        CocoDetection(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][0].update(category_id=5),
            r"annotation 7 of image 1 .*category 5 isn't in the list",
        ),
        (
            lambda c: c["annotations"][0].update(image_id=5),
            r"annotation 7 of image 5: there is no such image in the",
        ),
        (lambda c: c["annotations"][0].pop("bbox"), r"isn't in COCO's format \(no 'bbox'\): it must be JSON"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2]), r"isn't in COCO's format \(annotation 7 lacks"),
        (lambda c: c["annotations"][0].pop("category_id"), r"isn't in COCO's format \(.*category_id"),
        (lambda c: c["annotations"][0].update(bbox="none"), r"isn't in COCO's format \(could not convert"),
        (lambda c: c.pop("annotations"), r"isn't in COCO's format \(no 'annotations'\)"),
        (lambda c: c.pop("categories"), r"isn't in COCO's format \(no 'categories'\)"),
        (lambda c: c["images"][0].pop("width"), r"isn't in COCO's format \(no 'width'\)"),
        (lambda c: c["images"][0].update(width="12"), r"isn't in COCO's format \(image 1 has .*width '12'"),
        (lambda c: c["images"].append(c["images"][0]), r"isn't in COCO's format \(id 1 stands twice"),
        (lambda c: c.update(images=[], annotations=[]), r"lists no images: add them"),
        (lambda c: c.update(categories=[], annotations=[]), r"lists no categories: add them"),
    ],
)
def test_a_file_that_contradicts_itself_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    file = written(tmp_path, annotation(7, 1, [1, 2, 3, 4]))
    changed(file, change)
    with pytest.raises(SettingsError, match=rf"data\.root: .*instances_val2017\.json.*{message}"):
        CocoDetection(tmp_path, **SMALL)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"images": 3}', "\x00"])
def test_a_file_of_another_format_is_named(tmp_path: Path, text: str) -> None:
    written(tmp_path).write_text(text)
    with pytest.raises(
        SettingsError, match=r"instances_val2017\.json isn't in COCO's format \(.+\): it must be JSON"
    ):
        CocoDetection(tmp_path, **SMALL)


@pytest.mark.parametrize(
    "missing", ["", VAL, TRAIN, f"annotations/instances_{TRAIN}.json", f"annotations/instances_{VAL}.json"]
)
def test_a_missing_file_or_folder_is_named(tmp_path: Path, missing: str) -> None:
    write_coco(tmp_path / "coco")
    (tmp_path / "coco" / missing).rename(tmp_path / "away")
    message = rf"data\.root: there is no .*{missing}.*; set data\.root to the folder that holds train2017/"
    with pytest.raises(SettingsError, match=message):
        CocoDetection(tmp_path / "coco", **SMALL).setup()


def test_other_categories_in_training_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_part(tmp_path, VAL, [(1, 8, 8)], [], {4: "cat", 9: "hound", 10: "ant"})
    message = (
        r"train2017\.json and .*val2017\.json have different categories \(9: dog, 9: hound, 10: ant\): give"
    )
    with pytest.raises(SettingsError, match=message):
        CocoDetection(tmp_path, **SMALL).setup()


def damage(root: Path, kind: str) -> Path:
    path = root / TRAIN / "0003.png"
    if kind == "missing":
        path.unlink()
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (10, 8, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:150] if kind == "truncated" else b"text")
    return path


def test_a_missing_image_is_named_at_the_start(tmp_path: Path) -> None:
    damage(write_coco(tmp_path), "missing")
    message = (
        r"1 of the 6 images in .*train2017\.json aren't in .*train2017 \(0003\.png\): put .* data\.skip_"
    )
    with pytest.raises(SettingsError, match=message):
        CocoDetection(tmp_path, **SMALL).setup()


@pytest.mark.parametrize("kind", ["truncated", "text"])
def test_an_unreadable_image_is_named_where_it_is_read(tmp_path: Path, kind: str) -> None:
    damage(write_coco(tmp_path), kind)
    data = CocoDetection(tmp_path, **SMALL)
    message = (
        r"the image .*0003\.png can't be read \(.*\): replace it .*; data\.skip_unreadable=true leaves such"
    )
    with pytest.raises(ImageError, match=message):
        [ids(loader) for loader in (data.train_dataloader(), data.val_dataloader())]


@pytest.mark.parametrize("kind", ["missing", "truncated", "text"])
def test_unreadable_images_are_skipped_if_that_is_wanted(tmp_path: Path, kind: str) -> None:
    damage(write_coco(tmp_path), kind)
    data = CocoDetection(tmp_path, **SMALL, skip_unreadable=True)
    message = r"1 of the 6 images in .*train2017\.json can't be read from .* and are left out \(0003\.png\)"
    with pytest.warns(UserWarning, match=message) as caught:
        data.setup()
    assert len(caught) == 1
    with warnings.catch_warnings(action="error"):
        assert sorted(ids(data.train_dataloader()) + ids(data.val_dataloader())) == [1, 2, 4, 5, 6]


def test_at_least_one_image_is_left(tmp_path: Path) -> None:
    write_coco(tmp_path)
    for path in (tmp_path / VAL).iterdir():
        path.write_bytes(b"text")
    with pytest.raises(
        SettingsError, match=r"none of the images in .*val2017\.json can be read from .*\(0001\.png, "
    ):
        CocoDetection(tmp_path, **SMALL, skip_unreadable=True).setup()


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    written(tmp_path, annotation(7, 1, [1, 2, 3, 4]))
    Image.new("RGB", (6, 4)).save(tmp_path / VAL / "0001.png")
    with pytest.raises(
        ImageError, match=r"0001\.png has 6x4 pixels, and .*val2017\.json says 12x8: .* replace the"
    ):
        first(CocoDetection(tmp_path, **SMALL))


@pytest.mark.parametrize("polygons", [None, [], [[1, 2]], "none"])
def test_an_object_that_cannot_be_painted_is_named(tmp_path: Path, polygons: object) -> None:
    written(tmp_path, annotation(7, 1, [1, 2, 3, 4], segmentation=polygons))
    data = CocoDetection(tmp_path, **SMALL, target="masks", image_size=8)
    message = (
        r"annotation 7 of image 1 \(0001\.png\): its segmentation can't be painted .* data\.target=boxes"
    )
    with pytest.raises(SettingsError, match=message):
        list(data.test_dataloader())


def test_more_categories_than_masks_can_tell_are_refused(tmp_path: Path) -> None:
    names = {number: str(number) for number in range(255)}
    for part in (TRAIN, VAL):
        write_part(tmp_path, part, [(1, 8, 8), (2, 8, 8)], [annotation(1, 1, [0, 0, 2, 2])], names)
    assert CocoDetection(tmp_path, **SMALL).num_classes == 256
    with pytest.raises(SettingsError, match=r"data\.target=masks takes up to 254 categories, and .* has 255"):
        CocoDetection(tmp_path, **SMALL, target="masks").setup()


def test_without_pycocotools_its_installation_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(SettingsError, match=r"pip install 'snn_lightning\[detection\]'"):
        CocoDetection(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "keypoints"}, r"data\.target must be 'boxes' or 'masks', got 'keypoints'"),
        ({"image_size": 0}, r"data\.image_size must be a whole number"),
        ({"calibration_images": 9}, r"data\.calibration_images=9, but there are only 4 images"),
        ({"val_fraction": 0.9}, r"data\.val_fraction=0\.9 can't split 6 images"),
        ({"imagesize": 3}, "unknown setting of data: 'imagesize'"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_coco(tmp_path)
    with pytest.raises(SettingsError, match=message):
        CocoDetection(tmp_path, **{**SMALL, **settings}).calibration_dataloader()
