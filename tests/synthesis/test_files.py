from pathlib import Path

import pytest
import torch
from PIL import Image

from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.synthesis import ImageFolder


@pytest.mark.parametrize("channels", [1, 3])
def test_files_give_back_the_pixels(tmp_path: Path, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3, channels, 5, 7), generator=generator, dtype=torch.uint8)
    folder = ImageFolder(tmp_path / "new", {"seed": 0})
    folder.open()
    folder.write(2, pixels)
    assert sorted(path.name for path in folder.path.iterdir()) == [
        *(f"image_{i:05d}.png" for i in (2, 3, 4)),
        "synthesis.json",
    ]
    assert torch.equal(folder.read(range(2, 5)), pixels)
    assert folder.has(range(2, 5))
    assert not folder.has(range(1, 5))


def test_images_of_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="with 1 or 3 channels, and the network reads 4"):
        ImageFolder(tmp_path, {}).write(0, torch.zeros(1, 4, 2, 2, dtype=torch.uint8))


def test_a_folder_of_other_images_is_refused(tmp_path: Path) -> None:
    ImageFolder(tmp_path, {"seed": 0, "size": [8, 8]}).open()
    ImageFolder(tmp_path, {"seed": 0, "size": [8, 8]}).open()
    with pytest.raises(SettingsError, match=r"made with other seed: choose another folder, or delete it"):
        ImageFolder(tmp_path, {"seed": 1, "size": [8, 8]}).open()
    (tmp_path / "synthesis.json").write_text("{damaged")
    with pytest.raises(SettingsError, match=r"made with other seed, size"):
        ImageFolder(tmp_path, {"seed": 0, "size": [8, 8]}).open()


def test_a_folder_of_anyones_images_is_refused(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "image_00000.png")
    with pytest.raises(SettingsError, match="made with other seed"):
        ImageFolder(tmp_path, {"seed": 0}).open()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    folder = ImageFolder(tmp_path, {})
    pixels = torch.randint(256, (2, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    folder.write(0, pixels.byte())
    folder.file(1).write_bytes(folder.file(1).read_bytes()[:200])
    with pytest.raises(
        CheckpointError, match=r"image_00001.png' can't be read .*: delete it and run the same"
    ):
        folder.read(range(2))
    Image.new("L", (5, 4)).save(folder.file(1))
    with pytest.raises(
        CheckpointError, match=r"image_00001.png' can't be read \(it has the shape \(1, 4, 5\)\)"
    ):
        folder.read(range(2))


def test_the_contact_sheet_shows_the_images(tmp_path: Path) -> None:
    pixels = torch.full((3, 1, 4, 4), 9, dtype=torch.uint8)
    ImageFolder(tmp_path, {}).write_sheet(pixels)
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.size == (3 * 6 + 2, 8)
        assert sheet.getpixel((3, 3)) == (9, 9, 9)
