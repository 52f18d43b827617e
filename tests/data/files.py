"""Tiny data sets in the real formats."""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_fashion_mnist(
    folder: Path, packed: bool, train: int = 200, test: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """Write the four files; the training and the test images come back."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images = []
    for part, count in (("train", train), ("t10k", test)):
        images.append(random.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, values in (
            (f"{part}-images-idx3-ubyte", images[-1]),
            (f"{part}-labels-idx1-ubyte", labels),
        ):
            content = idx_bytes(values)
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return images[0], images[1]


def write_cifar(
    root: Path, source: type[torchvision.datasets.CIFAR10], monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    """Write 800 training and 100 test images, and make torchvision expect their checksums."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    fine = source is torchvision.datasets.CIFAR100
    classes = 100 if fine else 10

    def write(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name: str, count: int) -> tuple[list[str], np.ndarray]:
        data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [i % classes for i in range(count)]
        return write(name, {"data": data, "fine_labels" if fine else "labels": labels}), data

    parts = [batch("first", 400), batch("second", 400)]
    test = batch("test", 100)
    key = "fine_label_names" if fine else "label_names"
    meta = write("meta", {key: [str(i) for i in range(classes)]})
    monkeypatch.setattr(source, "train_list", [p[0] for p in parts])
    monkeypatch.setattr(source, "test_list", [test[0]])
    monkeypatch.setattr(source, "meta", {"filename": meta[0], "key": key, "md5": meta[1]})
    return np.concatenate([p[1] for p in parts]).reshape(-1, 3, 32, 32)


def write_image_folder(root: Path, classes: int = 2, train: int = 20, test: int = 4) -> None:
    """Write `train` and `val` images a class, of different sizes."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("val", test)):
        for label in range(classes):
            folder = root / part / f"n{label:04d}"
            folder.mkdir(parents=True)
            for index in range(count):
                size = (40 + index % 3, 48, 3)
                Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{index}.png")
