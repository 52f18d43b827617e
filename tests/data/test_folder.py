import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from snn_lightning.data import Folder
from snn_lightning.data.images import read_image
from snn_lightning.errors import ImageError, SettingsError

SMALL = {"image_size": 8, "calibration_images": 5, "num_workers": 0, "augment": False}
ANIMALS = ["ant", "bee", "cat"]


def write(folder: Path, count: int, level: int) -> None:
    """Write grey images of one level each, so that an image tells which it is."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(np.full((8, 8), level + index, dtype=np.uint8)).save(folder / f"{index}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten training images a class, levels 0 to 9, 20 to 29 and 40 to 49."""
    for label, name in enumerate(ANIMALS):
        write(tmp_path / "train" / name, 10, 20 * label)
    return tmp_path


def add(root: Path, part: str, level: int) -> None:
    for label, name in enumerate(ANIMALS):
        write(root / part / name, 2, level + 20 * label)


def levels(loader: DataLoader, data: Folder) -> list[int]:
    x = torch.cat([x for x, _ in loader])
    mean, std = (0.449, 0.226) if data.in_channels == 1 else (0.485, 0.229)
    flat = (x[:, 0] * std + mean) * 255
    assert (flat.amax((1, 2)) - flat.amin((1, 2))).max() < 0.01
    return flat[:, 0, 0].round().int().tolist()


def labels(loader: DataLoader) -> Tensor:
    return torch.cat([y for _, y in loader])


def parts(data: Folder) -> dict[str, list[int]]:
    return {p: sorted(levels(getattr(data, f"{p}_dataloader")(), data)) for p in ("train", "val", "test")}


ALL = [level + 20 * label for label in range(3) for level in range(10)]


def test_what_has_no_folder_is_held_back_and_always_the_same(root: Path) -> None:
    data = Folder(root, **SMALL, in_channels=1, batch_size=1, test_fraction=0.3, val_fraction=0.2)
    held = parts(data)
    assert {part: len(found) for part, found in held.items()} == {"train": 16, "val": 5, "test": 9}
    assert sorted(level for found in held.values() for level in found) == ALL
    assert torch.bincount(labels(data.test_dataloader())).tolist() == [3, 3, 3]
    for seed in (0, 1):
        again = Folder(
            root, **SMALL, in_channels=1, batch_size=1, test_fraction=0.3, val_fraction=0.2, seed=seed
        )
        assert parts(again) == held
    assert (data.class_names, data.num_classes) == (ANIMALS, 3)


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_second_folder_is_the_test_set(root: Path, name: str) -> None:
    add(root, name, 100)
    data = Folder(root, **SMALL, batch_size=1)
    held = parts(data)
    assert held["test"] == [100, 101, 120, 121, 140, 141]
    assert len(held["val"]) == 3
    assert sorted(held["train"] + held["val"]) == ALL


def test_with_all_three_folders_nothing_is_held_back(root: Path) -> None:
    add(root, "val", 100)
    add(root, "test", 200)
    data = Folder(root, **SMALL, batch_size=1)
    assert parts(data) == {
        "train": ALL,
        "val": [100, 101, 120, 121, 140, 141],
        "test": [200, 201, 220, 221, 240, 241],
    }
    assert labels(data.test_dataloader()).tolist() == [0, 0, 1, 1, 2, 2]


def test_calibration_images_are_training_images_the_same_ones_each_time(root: Path) -> None:
    def chosen(seed: int) -> list[int]:
        data = Folder(root, **SMALL, seed=seed)
        torch.manual_seed(seed)
        return levels(data.calibration_dataloader(), data)

    assert chosen(0) == chosen(0) != chosen(1)
    held = Folder(root, **SMALL, batch_size=1)
    assert set(chosen(0)) <= set(parts(held)["train"])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_become_what_is_asked_for(root: Path, mode: str, channels: int) -> None:
    path = root / "train" / "ant" / "0.png"
    Image.new("RGB", (12, 20), (255, 255, 255)).convert(mode).save(path)
    data = Folder(root, **SMALL, in_channels=channels, mean=0.0, std=[0.5] * channels)
    entry = (str(path), 0)
    (image,) = (part[part.files.index(entry)][0] for part in data.load() if part and entry in part.files)
    assert image.shape == (channels, 8, 8)
    assert torch.allclose(image, torch.tensor(2.0))


def test_the_shorter_side_is_brought_to_resize_and_the_centre_cut_out(root: Path) -> None:
    values = np.zeros((16, 32), dtype=np.uint8)
    values[4:12, 12:20] = 255
    shutil.rmtree(root / "train" / "ant")
    (root / "train" / "ant").mkdir()
    for index in range(10):
        Image.fromarray(values).save(root / "train" / "ant" / f"{index}.png")
    settings = {**SMALL, "in_channels": 1, "mean": 0.0, "std": 1.0}
    whole, centre = (Folder(root, **settings, resize=size).load()[0][0][0] for size in (8, 16))
    assert torch.equal(centre, torch.ones(1, 8, 8))
    assert whole.mean() == pytest.approx(1 / 4, abs=0.02)


def test_augmentation_is_of_training_images_and_by_the_seed(root: Path) -> None:
    for path in root.rglob("*.png"):
        Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(path)

    def batch(seed: int) -> Tensor:
        data = Folder(root, **{**SMALL, "augment": True}, batch_size=16, seed=seed)
        return next(iter(data.train_dataloader()))[0]

    assert torch.equal(batch(0), batch(0))
    assert not torch.equal(batch(0), batch(1))


def test_files_fingerprint_follows_the_training_images(root: Path, tmp_path: Path) -> None:
    first = Folder(root, **SMALL).files_fingerprint()
    moved = tmp_path / "elsewhere"
    shutil.copytree(root / "train", moved / "train")
    add(moved, "test", 100)
    assert Folder(moved, **SMALL).files_fingerprint() == first
    (moved / "train" / "ant" / "0.png").unlink()
    assert Folder(moved, **SMALL).files_fingerprint() != first


def one_class(root: Path) -> None:
    for name in ANIMALS[1:]:
        shutil.rmtree(root / "train" / name)


def renamed(root: Path) -> None:
    add(root, "val", 100)
    (root / "val" / "cat").rename(root / "val" / "cats")


def without_images(root: Path) -> None:
    shutil.rmtree(root / "train" / "bee")
    (root / "train" / "bee").mkdir()
    (root / "train" / "bee" / "notes.txt").write_text("none yet")


def emptied(root: Path) -> None:
    for name in ANIMALS:
        shutil.rmtree(root / "train" / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, r"there is no folder .*; set data\.root to the one that holds train/<class>/"),
        (lambda root: shutil.rmtree(root / "train"), "holds no folders, and no train: put the images into"),
        (lambda root: (root / "train").rename(root / "images"), "holds images, and no train"),
        (lambda root: (root / "validation").mkdir(), "validation isn't read; rename it to val"),
        (emptied, "train holds no class folders; a classifier needs at least two"),
        (one_class, "train holds one class, 'ant'; a classifier needs at least two"),
        (without_images, r"no images in .*train/bee: put some there \(\.jpg, .*, or remove the class from"),
        (renamed, "compared with .*train, .*val lacks cat and has cats besides: both need the same class"),
    ],
)
def test_a_layout_that_cannot_be_read_is_named(
    root: Path, change: Callable[[Path], object], message: str
) -> None:
    change(root)
    with pytest.raises(SettingsError, match=rf"data\.root: .*{message}"):
        Folder(root, **SMALL).setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 2}, r"data\.in_channels must be 1 or 3"),
        ({"resize": 7}, r"data\.resize must be .* at least data\.image_size=8, got 7"),
        ({"mean": [0.5, 0.5]}, r"data\.mean must be 3 numbers, one a channel"),
        ({"std": 0.0}, r"data\.std must be 3 positive numbers"),
        ({"test_fraction": 0.01}, r"data\.test_fraction=0\.01 can't split 30 images"),
        ({"calibration_images": 99}, r"data\.calibration_images=99, but there are only 21 images"),
        ({"imagesize": 3}, "unknown setting of data: 'imagesize'"),
    ],
)
def test_bad_settings_are_named(root: Path, settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Folder(root, **{**SMALL, **settings}).calibration_dataloader()


@pytest.mark.parametrize("damage", ["text", "cut", "deep"])
def test_an_image_that_cannot_be_read_is_named(root: Path, damage: str) -> None:
    for path in (root / "train" / "bee").iterdir():
        if damage == "deep":
            Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(path)
        else:
            path.write_bytes(b"text" if damage == "text" else path.read_bytes()[:50])
    message = rf"\Athe image {root}/train/bee/\d\.png can't be read \(.*\): replace it .*, or delete it\Z"
    with pytest.raises(ImageError, match=message):
        list(Folder(root, **SMALL, batch_size=64).test_dataloader())
    try:
        read_image(str(root / "train" / "bee" / "0.png"), "L")
    except ImageError:
        in_worker = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(ImageError, match=message):
        in_worker.reraise()
