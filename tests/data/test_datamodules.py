import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader

from snn_lightning.data import CIFAR10, CIFAR100, Digits, FashionMNIST, ImageNet
from snn_lightning.data.augment import Augment
from snn_lightning.data.images import TensorImages
from snn_lightning.errors import SettingsError

from .files import write_cifar, write_fashion_mnist, write_image_folder


def collect(loader: DataLoader) -> tuple[Tensor, Tensor]:
    batches = list(loader)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def rows(x: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in x}


def test_digits_splits_are_disjoint_complete_and_stratified() -> None:
    data = Digits(augment=False, batch_size=1)
    parts = {p: collect(getattr(data, f"{p}_dataloader")()) for p in ("train", "val", "test")}
    assert {p: len(y) for p, (_, y) in parts.items()} == {"train": 1257, "val": 180, "test": 360}
    seen = {p: rows(x) for p, (x, _) in parts.items()}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]
    for _, y in parts.values():
        shares = torch.bincount(y, minlength=10) / len(y)
        assert (shares - 0.1).abs().max() < 0.02


def test_digits_are_normalised_float_images() -> None:
    data = Digits(augment=False, in_channels=3, batch_size=1437)
    x, y = collect(data.test_dataloader())
    assert x.shape == (360, 3, 32, 32)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.mean().abs() < 0.05
    assert (x.std() - 1).abs() < 0.05
    assert torch.equal(x[:, 0], x[:, 2])
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 3, 32)


def test_splits_do_not_depend_on_the_seed_and_calibration_does() -> None:
    one, two = Digits(seed=1), Digits(seed=2)
    for part in ("val", "test"):
        first, second = (collect(getattr(d, f"{part}_dataloader")()) for d in (one, two))
        assert torch.equal(first[0], second[0])
    assert rows(collect(one.calibration_dataloader())[0]) != rows(collect(two.calibration_dataloader())[0])


def test_the_calibration_images_may_have_a_seed_of_their_own() -> None:
    one, own, other = Digits(seed=1), Digits(seed=2, calibration_seed=1), Digits(seed=1, calibration_seed=0)
    first, same, different = (rows(collect(d.calibration_dataloader())[0]) for d in (one, own, other))
    assert first == same != different
    with pytest.raises(SettingsError, match="calibration_seed must be a whole number of at least 0, got -1"):
        Digits(calibration_seed=-1)


def test_calibration_images_are_plain_training_images() -> None:
    data = Digits(calibration_images=200, calibration_batch_size=64, seed=3)
    plain = Digits(augment=False, batch_size=1, seed=3)
    assert [len(y) for _, y in data.calibration_dataloader()] == [64, 64, 64, 8]
    chosen = rows(collect(data.calibration_dataloader())[0])
    assert len(chosen) == 200
    assert chosen <= rows(collect(plain.train_dataloader())[0])
    assert not chosen & rows(collect(plain.val_dataloader())[0])


def test_calibration_neither_reads_nor_moves_the_global_random_stream() -> None:
    data = Digits()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = collect(data.calibration_dataloader())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    again = collect(data.calibration_dataloader())
    other = collect(Digits().calibration_dataloader())
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[0], other[0])
    assert torch.equal(first[1], other[1])


def test_training_batches_repeat_with_the_seed_only() -> None:
    def batches(seed: int, noise: int) -> Tensor:
        torch.manual_seed(noise)
        loader = Digits(seed=seed).train_dataloader()
        return torch.cat([collect(loader)[0] for _ in range(2)])

    torch.manual_seed(7)
    before = torch.get_rng_state()
    collect(Digits().train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)
    first = batches(0, noise=1)
    assert torch.equal(first, batches(0, noise=2))
    assert not torch.equal(first, batches(1, noise=1))
    half = len(first) // 2
    assert not torch.equal(first[:half], first[half:])


def test_augmentation_touches_training_images_only() -> None:
    plain = rows(collect(Digits(augment=False, batch_size=1).train_dataloader())[0])
    shifted = rows(collect(Digits(batch_size=1).train_dataloader())[0])
    assert len(shifted - plain) > 1000
    for part in ("val", "test", "calibration"):
        on, off = (collect(getattr(Digits(augment=a), f"{part}_dataloader")())[0] for a in (True, False))
        assert torch.equal(on, off)


def test_workers_augment_differently_and_each_epoch_anew() -> None:
    data = Digits(num_workers=2, train_images=256, calibration_images=8, batch_size=128)
    loader = data.train_dataloader()
    one, two = collect(loader)[0], collect(loader)[0]
    assert rows(one) != rows(two)
    again = Digits(num_workers=2, train_images=256, calibration_images=8, batch_size=128).train_dataloader()
    assert torch.equal(one, collect(again)[0])
    # With one stream for both workers, two batches of equal images would stay equal.
    images = torch.zeros(2, 1, 32, 32)
    images[:, :, 8:24, 8:24] = 1
    same = TensorImages(
        images.repeat(64, 1, 1, 1), torch.zeros(128, dtype=torch.long), [0.0], [1.0], data_shift(data)
    )
    a, b = (x for x, _ in DataLoader(same.augmented(0), batch_size=64, num_workers=2))
    assert not torch.equal(a, b)


def data_shift(data: Digits) -> Augment:
    return data.load()[0]._augment


def test_limits_keep_fixed_subsets() -> None:
    data = Digits(train_images=300, test_images=50, calibration_images=300, seed=0)
    other = Digits(train_images=300, test_images=50, calibration_images=300, seed=9)
    assert sum(len(y) for _, y in data.test_dataloader()) == 50
    first, second = (rows(collect(d.calibration_dataloader())[0]) for d in (data, other))
    assert len(first) == 300
    assert first == second  # all of the same 300 training images, in another order


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"calibration_images": 0}, ["data.calibration_images", "0"]),
        ({"calibration_images": 1258}, ["data.calibration_images=1258", "1257"]),
        ({"train_images": 100}, ["data.calibration_images=256", "100"]),
        ({"test_images": 361}, ["data.test_images=361", "360"]),
        ({"batch_size": 2.5}, ["data.batch_size", "2.5"]),
        ({"val_fraction": 1.0}, ["data.val_fraction"]),
        ({"val_fraction": 0.0001}, ["data.val_fraction=0.0001", "1437"]),
        ({"in_channels": 2}, ["data.in_channels"]),
        ({"batchsize": 3}, ["batchsize", "did you mean 'batch_size'"]),
    ],
)
def test_bad_settings_are_named(settings: dict, parts: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Digits(**settings).calibration_dataloader()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_fashion_mnist_reads_idx_files_and_writes_nothing(tmp_path: Path, packed: bool, layout: str) -> None:
    train, test = write_fashion_mnist(tmp_path / layout, packed)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    data = FashionMNIST(tmp_path, calibration_images=20, batch_size=50)
    x, y = collect(data.test_dataloader())
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == files
    expected = (torch.from_numpy(test).float() / 255 - 0.286) / 0.353
    assert torch.allclose(x[:, 0, 2:30, 2:30], expected, atol=1e-6)
    assert torch.allclose(x[:, :, :2], torch.tensor(-0.286 / 0.353), atol=1e-6)
    assert y.tolist() == [i % 10 for i in range(50)]
    assert len(train) == 200
    assert sum(len(y) for _, y in data.val_dataloader()) == 20


def test_fashion_mnist_interpolates_to_other_sizes(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path, packed=True)
    data = FashionMNIST(tmp_path, image_size=64, in_channels=3, calibration_images=20)
    x, _ = next(iter(data.calibration_dataloader()))
    assert x.shape == (20, 3, 64, 64)


@pytest.mark.parametrize(("kind", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_cifar_reads_the_python_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[CIFAR10], classes: int
) -> None:
    images = write_cifar(tmp_path, getattr(torchvision.datasets, kind.__name__), monkeypatch)
    data = kind(tmp_path, calibration_images=32, val_fraction=0.25, batch_size=50)
    assert data.num_classes == classes
    x, y = collect(data.calibration_dataloader())
    restored = (x * torch.tensor(kind.std)[:, None, None] + torch.tensor(kind.mean)[:, None, None]) * 255
    source = {image.tobytes(): index % 400 % classes for index, image in enumerate(images)}
    back = restored.round().to(torch.uint8).numpy()
    assert [source[image.tobytes()] for image in back] == y.tolist()
    x, _ = next(iter(data.train_dataloader()))
    assert x.shape == (50, 3, 32, 32)
    assert sum(len(y) for _, y in data.val_dataloader()) == 200


def test_imagenet_reads_folders(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    settings = {"num_classes": 2, "image_size": 24, "batch_size": 6, "num_workers": 0, "val_fraction": 0.2}
    data = ImageNet(tmp_path, calibration_images=10, **settings)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    x, _ = next(iter(data.train_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)
    assert x.shape == (6, 3, 24, 24)
    _, y = collect(data.test_dataloader())
    assert y.tolist() == [0] * 4 + [1] * 4
    first, second = (collect(data.calibration_dataloader())[0] for _ in range(2))
    assert torch.equal(first, second)
    again, _ = next(iter(ImageNet(tmp_path, calibration_images=10, **settings).train_dataloader()))
    assert torch.equal(x, again)
    with pytest.raises(SettingsError, match=r"data\.num_classes=1000.* 2 classes"):
        ImageNet(tmp_path, calibration_images=10).setup()


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        (FashionMNIST, "dataset-fashion-mnist"),
        (CIFAR10, "download=True"),
        (CIFAR100, "download=True"),
        (ImageNet, "train/<class>/"),
    ],
)
def test_missing_files_are_named_with_the_remedy(tmp_path: Path, kind: type, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        kind(tmp_path / "nowhere").setup()
    for part in ("data.root", str(tmp_path / "nowhere"), remedy):
        assert part in str(caught.value)


def test_a_damaged_cifar_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, torchvision.datasets.CIFAR10, monkeypatch)
    content = {"data": np.zeros((1, 3072), dtype=np.uint8), "labels": [0]}
    (tmp_path / "cifar-10-batches-py" / "second").write_bytes(pickle.dumps(content))
    with pytest.raises(SettingsError, match="no intact"):
        CIFAR10(tmp_path).setup()
