"""The calibration images of each source and of mixtures: how many, which, in which order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor

from snn_lightning.data import CIFAR10, Digits, Folder, ImageNet, Shapes
from snn_lightning.data.sources import CalibrationImages, DataSource
from snn_lightning.errors import ImageError, SettingsError
from tests.data.files import write_image_folder


def digits(count: int | None = 10, **settings: Any) -> Digits:
    return Digits(image_size=8, calibration_images=count, calibration_batch_size=4, **settings)


def photos(folder: Path, count: int, size: tuple[int, int] = (20, 30)) -> Path:
    """A folder with uniform images of the levels 0, 1, 2..."""
    folder.mkdir()
    for level in range(count):
        Image.fromarray(np.full(size, level, np.uint8)).save(folder / f"{level:03}.png")
    return folder


def ones(count: int) -> Tensor:
    """Stands for images made from an ANN."""
    return torch.ones(count, 1, 8, 8)


def gathered(images: CalibrationImages) -> Tensor:
    return torch.cat(list(images.loader(ones)))


def levels(images: Tensor) -> list[int]:
    """The grey level of each uniform image of the digits' normalisation."""
    return ((images[:, 0, 0, 0] * 0.33 + 0.305) * 255).round().int().tolist()


def real(data: Digits) -> Tensor:
    return torch.cat([x for x, _ in data.calibration_dataloader()])


def test_real_images_alone_are_those_of_the_data() -> None:
    data = digits()
    images = CalibrationImages(DataSource(), data)
    assert images.counts == {"real": 10}
    for loader in (images.loader(ones), images.sample()):
        for (x, y), (expected, labels) in zip(loader, data.calibration_dataloader(), strict=True):
            assert torch.equal(x, expected)
            assert torch.equal(y, labels)
    assert CalibrationImages(DataSource(), digits(None)).counts == {"real": 256}


def test_other_sources_share_equally_what_the_folder_leaves(tmp_path: Path) -> None:
    path, data = photos(tmp_path / "photos", 3), digits()
    images = CalibrationImages(DataSource("noise+folder+real+synthetic", path=path), data)
    assert images.counts == {"noise": 3, "folder": 3, "real": 2, "synthetic": 2}
    assert len(images) == 10
    x = gathered(images)
    assert levels(x[3:6]) == [0, 1, 2]
    assert torch.equal(x[6:8], real(data)[:2])
    assert torch.equal(x[8:], ones(2))
    assert [len(batch) for batch in images.loader(ones)] == [4, 4, 2]


def test_nothing_is_made_for_the_number_and_a_sample() -> None:
    images = CalibrationImages(DataSource("synthetic"), digits())
    assert images.counts == {"synthetic": 10}
    sample = next(iter(images.sample()))
    assert sample.shape == (4, 1, 8, 8)
    assert not torch.equal(sample[0], sample[1])


def test_noise_is_that_of_the_calibration_seed() -> None:
    one, same, other = (
        gathered(CalibrationImages(DataSource("noise"), digits(calibration_seed=seed))) for seed in (1, 1, 2)
    )
    assert one.shape == (10, 1, 8, 8)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_of_a_large_folder_the_seed_draws(tmp_path: Path) -> None:
    path = photos(tmp_path / "photos", 30)
    drawn = [
        levels(gathered(CalibrationImages(DataSource("folder", path=path), digits(calibration_seed=seed))))
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] == sorted(set(drawn[0]))
    assert len(drawn[0]) == 10
    assert drawn[0] != drawn[2]
    # A folder with as many as are wanted, or fewer, gives all.
    assert levels(gathered(CalibrationImages(DataSource("folder", path=path), digits(40)))) == [*range(30)]


def test_small_images_are_scaled_up_and_the_centre_is_cut_out(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, 1:3] = 255
    Image.fromarray(pixels).save(tmp_path / "photos" / "stripe.png")
    x = gathered(CalibrationImages(DataSource("folder", path=tmp_path / "photos"), digits(1)))
    assert x.shape == (1, 1, 8, 8)
    middle = (x[0, 0] * 0.33 + 0.305)[:, 3:5]
    assert torch.allclose(middle, torch.ones(8, 2), atol=1e-3)


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_a_training_image_comes_as_the_data_give_it(tmp_path: Path, kind: str) -> None:
    write_image_folder(tmp_path)
    sizes: dict[str, Any] = {
        "image_size": 24,
        "num_workers": 0,
        "val_fraction": 0.1,
        "calibration_images": 30,
    }
    data = (
        Folder(tmp_path, resize=40, **sizes)
        if kind == "folder"
        else ImageNet(tmp_path, num_classes=2, **sizes)
    )
    source = DataSource("folder", path=tmp_path / "train")
    given = gathered(CalibrationImages(source, data))
    expected = torch.cat([x for x, _ in data.calibration_dataloader()])
    # The same files, but for those that validate, in another order.
    common = [any(torch.equal(one, other) for other in expected) for one in given]
    assert given.shape == expected.shape
    assert sum(common) > 15


def test_masks_go_with_every_source(tmp_path: Path) -> None:
    data = Shapes(tmp_path, images=20, test_size=4, image_size=32, target="masks", calibration_images=4)
    x = gathered(CalibrationImages(DataSource("real+noise"), data))
    assert x.shape == (4, 3, 32, 32)


def test_boxes_have_real_images_alone(tmp_path: Path) -> None:
    data = Shapes(tmp_path, images=20, test_size=4, image_size=32, calibration_images=4)
    assert CalibrationImages(DataSource(), data).counts == {"real": 4}
    with pytest.raises(SettingsError, match=r"data_source=noise gives batches.*Shapes are of another form"):
        CalibrationImages(DataSource("noise"), data)
    with pytest.raises(SettingsError, match="LightningDataModule are of another form"):
        CalibrationImages(DataSource("noise"), LightningDataModule())


def test_data_that_don_t_say_how_they_are_normalised(tmp_path: Path) -> None:
    data = digits()
    data.mean = None  # type: ignore[assignment]
    images = CalibrationImages(DataSource("folder", path=photos(tmp_path / "photos", 2)), data)
    with pytest.raises(SettingsError, match="Digits doesn't say how its images are normalised: set its mean"):
        assert images.counts


def test_damaged_images_are_refused_or_left_out(tmp_path: Path) -> None:
    path = photos(tmp_path / "photos", 6)
    for name in ("001.png", "004.png"):
        (path / name).write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"001\.png can't be read .* and 1 more: .*skip_unreadable=true"):
        assert CalibrationImages(DataSource("folder", path=path), digits()).counts
    images = CalibrationImages(DataSource("folder+noise", path=path, skip_unreadable=True), digits())
    with pytest.warns(UserWarning, match=r"2 of 6 images in .* are left out: .*001\.png .*004\.png"):
        assert images.counts == {"folder": 4, "noise": 6}
    assert levels(gathered(images)[:4]) == [0, 2, 3, 5]


def test_a_folder_of_damaged_images_alone(tmp_path: Path) -> None:
    path = photos(tmp_path / "photos", 1)
    (path / "000.png").write_bytes(b"damaged")
    images = CalibrationImages(DataSource("folder", path=path, skip_unreadable=True), digits())
    with pytest.raises(SettingsError, match=r"none of the 1 images in .* can be read"):
        assert images.counts


def test_nothing_left_for_a_source(tmp_path: Path) -> None:
    path = photos(tmp_path / "photos", 9)
    source = DataSource("folder+synthetic+noise", path=path)
    with pytest.raises(SettingsError, match=r"no image is left for noise: .*=10 is .*photos gives 9"):
        assert CalibrationImages(source, digits(10)).counts
    with pytest.raises(SettingsError, match=r"no image is left for synthetic and noise: .*images=9"):
        assert CalibrationImages(source, digits(9)).counts
    with pytest.raises(SettingsError, match=r"left for noise: data\.calibration_images=1 is their number in"):
        assert CalibrationImages(DataSource("real+noise"), digits(1)).counts


def test_fewer_training_images_than_wanted() -> None:
    images = CalibrationImages(DataSource("real+noise"), digits(300, train_images=100))
    with pytest.raises(
        SettingsError, match=r"the real part of data\.calibration_images=150, but .* only 100"
    ):
        assert images.counts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_source": "syntetic"}, "unknown data_source: 'syntetic'; did you mean 'synthetic'"),
        ({"data_source": "real+"}, "unknown data_source: ''"),
        ({"data_source": ""}, "data_source must be one of real, folder, synthetic, noise, or several"),
        ({"data_source": None}, "data_source must be one of .*got None"),
        ({"data_source": "noise+real+noise"}, r"data_source=noise\+real\+noise names a source twice"),
        ({"data_source": "folder"}, "data_source=folder needs path="),
        ({"path": "photos"}, "path=photos is of data_source=folder, and data_source=real"),
        ({"skip_unreadable": "yes"}, "skip_unreadable must be true or false, got 'yes'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DataSource(**settings)


def test_mean_and_deviation_are_known_before_anything_is_read() -> None:
    assert Digits(in_channels=3).mean == [0.305] * 3
    assert CIFAR10("data").std == (0.247, 0.2435, 0.2616)
    assert ImageNet("data").mean == (0.485, 0.456, 0.406)
