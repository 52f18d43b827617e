"""Images of any kind, size and format come as the data module's own do; what can't be read is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from snn_lightning.data import unlabelled
from snn_lightning.data.unlabelled import ImageFiles, Noise, decode, image_files, readable
from snn_lightning.errors import ImageError, SettingsError


def saved(path: Path, pixels: Any, mode: str | None = None, **options: Any) -> Path:
    """A file of these pixels."""
    image = Image.fromarray(np.array(pixels))
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def test_grey_becomes_colour_and_colour_grey(tmp_path: Path) -> None:
    grey = saved(tmp_path / "grey.png", np.full((2, 4), 100, np.uint8))
    assert np.array(decode(grey, "RGB")).tolist() == [[[100] * 3] * 4] * 2
    colour = saved(tmp_path / "colour.png", np.full((1, 1, 3), (255, 0, 0), np.uint8))
    assert np.array(decode(colour, "L")).tolist() == [[round(0.299 * 255)]]


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    rgba = saved(tmp_path / "rgba.png", np.array([[(10, 20, 30, 255), (10, 20, 30, 0)]], np.uint8))
    assert np.array(decode(rgba, "RGB")).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    half = saved(tmp_path / "half.png", np.array([[(0, 0, 0, 128)]], np.uint8), "LA")
    assert np.array(decode(half, "L")).tolist() == [[127]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([9, 9, 9, 8, 8, 8])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert np.array(decode(tmp_path / "palette.png", "L")).tolist() == [[9, 255]]


@given(st.integers(0, 65535))
def test_sixteen_bits_are_rounded_to_eight(value: int) -> None:
    image = Image.fromarray(np.array([[value]], np.uint16))
    for whole in (image, Image.fromarray(np.array([[value]], np.int32))):
        found = np.array(unlabelled._eight_bits(whole)).item()
        assert abs(found * 257 - value) <= 128.5


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_files_of_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"deep.{suffix}", np.array([[0, 257, 65535]], np.uint16))
    assert np.array(decode(path, "L")).tolist() == [[0, 1, 255]]


def test_an_image_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    path = saved(tmp_path / "turned.png", np.array([[10, 20]], np.uint8), exif=exif)
    assert np.array(decode(path, "L")).tolist() == [[10], [20]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot identify image file"),
        (b"hello", "cannot identify image file"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"the image .*broken\.png can't be read \({reason}"):
        decode(path, "L")


def test_half_a_file_and_more_than_sixteen_bits_are_named(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"cut\.png can't be read \(.*truncated"):
        decode(cut, "L")
    path = saved(tmp_path / "float.tiff", np.ones((1, 1), np.float32))
    with pytest.raises(ImageError, match=r"float\.tiff can't be read \(it has more than 16 bits a channel"):
        decode(path, "L")


def test_sizes_that_don_t_fit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strip = saved(tmp_path / "strip.png", np.zeros((1, 4096), np.uint8))
    good, problems = readable([strip], 1, resize=224)
    assert good == []
    (problem,) = problems
    assert problem.endswith("its 4096x1 pixels are too many with the shorter side brought to 224)")
    assert readable([strip], 1, resize=8) == ([strip], [])
    monkeypatch.setattr(unlabelled, "LARGEST", 4000)
    with pytest.raises(ImageError, match=r"strip\.png can't be read \(its 4096x1 pixels are too many\)"):
        decode(strip, "L")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"strip\.png can't be read .*exceeds limit"):
        decode(strip, "L")
    with pytest.raises(ValueError, match="it is empty, 0x3 pixels"):
        unlabelled._check_size((0, 3), 0)


def test_images_are_found_in_all_folders(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a/deep/3.tiff", "notes.txt", "b/.hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["a/deep/3.tiff", "b/1.png", "b/2.JPG"]


def test_no_folder_and_no_image(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"path: there is no folder .*missing"):
        image_files(tmp_path / "missing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SettingsError, match=r"path: .* holds no image \(\.jpg"):
        image_files(tmp_path)


def test_files_are_decoded_until_there_are_enough(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{index}.png", np.zeros((2, 2), np.uint8)) for index in range(5)]
    files[1].write_bytes(b"broken")
    files[4].write_bytes(b"broken")
    good, problems = readable(files, 3, resize=2)
    assert good == [files[0], files[2], files[3]]
    assert len(problems) == 1  # nobody has asked for the last one
    good, problems = readable(files, 9, resize=2)
    assert (len(good), len(problems)) == (3, 2)


def test_a_data_set_of_files(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{index}.png", np.full((2, 3), index, np.uint8)) for index in range(2)]
    images = ImageFiles(files, pil_to_tensor, "RGB")
    assert len(images) == 2
    assert torch.equal(images[1], torch.ones(3, 2, 3, dtype=torch.uint8))


def test_noise_is_standard_normal_and_the_seed_s() -> None:
    images = torch.stack(list(Noise(64, (3, 16, 16), seed=1)))
    assert images.dtype == torch.float32
    count = images.numel()
    assert abs(images.mean()) < 4 / count**0.5
    assert abs(images.var() - 1) < 4 * (2 / count) ** 0.5
    assert torch.equal(torch.stack(list(Noise(64, (3, 16, 16), seed=1))), images)
    assert not torch.equal(Noise(1, (3, 16, 16), seed=2)[0], images[0])
