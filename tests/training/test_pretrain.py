import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.training import fingerprint, load_or_train, pretrained_path

SETTINGS = {"model": {"name": "vgg16", "width": 0.5}, "data": {"name": "digits", "size": [32, 32]}, "seed": 0}


def save(path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(3)}}, path)


def test_fingerprint_is_stable() -> None:
    assert fingerprint(SETTINGS) == "5cbbec0f8fa64bca"
    turned = {
        "seed": 0,
        "data": {"size": (32, 32), "name": "digits"},
        "model": {"width": 0.5, "name": "vgg16"},
    }
    assert fingerprint(turned) == fingerprint(SETTINGS)
    assert fingerprint(OmegaConf.create(SETTINGS)) == fingerprint(SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"model": {"name": "vgg16", "width": 0.25}},
        {"data": {"name": "digits", "size": [32]}},
        {"extra": None},
    ],
)
def test_fingerprint_differs_with_any_setting(change: dict) -> None:
    assert fingerprint({**SETTINGS, **change}) != fingerprint(SETTINGS)


def test_fingerprint_refuses_what_is_not_plain() -> None:
    with pytest.raises(SettingsError, match=r"settings\.model\.net"):
        fingerprint({"model": {"net": object()}})


def test_trains_once_then_keeps(tmp_path: Path) -> None:
    calls: list[Path] = []

    def train(path: Path) -> None:
        calls.append(path)
        assert not pretrained_path(tmp_path / "cache", fingerprint(SETTINGS)).exists()
        save(path)

    first = load_or_train(tmp_path / "cache", SETTINGS, train)
    second = load_or_train(tmp_path / "cache", SETTINGS, train)
    assert (first.trained, second.trained) == (True, False)
    assert first.path == second.path == pretrained_path(tmp_path / "cache", fingerprint(SETTINGS))
    assert torch.load(first.path, weights_only=True)["state_dict"]["w"].tolist() == [1, 1, 1]
    assert json.loads(first.path.with_suffix(".json").read_text()) == SETTINGS
    assert len(calls) == 1
    assert load_or_train(tmp_path / "cache", {**SETTINGS, "seed": 1}, save).trained


def test_a_failed_training_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space left"):
        load_or_train(tmp_path, SETTINGS, fail)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".lock"}
    with pytest.raises(CheckpointError, match="without saving"):
        load_or_train(tmp_path, SETTINGS, lambda path: None)
    assert load_or_train(tmp_path, SETTINGS, save).trained


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = load_or_train(tmp_path, SETTINGS, save).path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="delete it") as caught:
        load_or_train(tmp_path, SETTINGS, save)
    assert str(path) in str(caught.value)
    path.unlink()
    assert load_or_train(tmp_path, SETTINGS, save).trained


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"Could not write '.*file/cache.* choose another folder"):
        load_or_train(tmp_path / "file" / "cache", SETTINGS, save)


def test_the_other_processes_of_a_training_neither_wait_nor_keep(tmp_path: Path) -> None:
    seen: list[bool] = []

    def lead(part: Path) -> None:
        other = load_or_train(tmp_path, SETTINGS, lambda path: seen.append(path == part), leader=False)
        assert other.trained
        save(part)

    assert load_or_train(tmp_path, SETTINGS, lead).trained
    assert seen == [True]
    assert not load_or_train(tmp_path, SETTINGS, lead, leader=False).trained


def test_all_processes_of_a_training_do_what_the_leader_sees(tmp_path: Path) -> None:
    """It may have waited for another training, whose checkpoint the others could not see when they looked."""
    with pytest.raises(CheckpointError, match="is damaged"):  # it was told that there is one
        load_or_train(tmp_path, SETTINGS, save, leader=False, agree=lambda seen: True)
    path = load_or_train(tmp_path, SETTINGS, save, agree=lambda seen: seen).path
    trained: list[Path] = []
    load_or_train(tmp_path, SETTINGS, trained.append, leader=False, agree=lambda seen: not seen)
    assert trained == [path.with_name(f".{path.name}.part")]


def share(folder: Path, start: Any, results: Any) -> None:
    def train(path: Path) -> None:
        with open(folder / "log", "a") as log:
            log.write("trained\n")
        path.write_bytes(b"half")
        time.sleep(0.5)
        save(path)

    start.wait(30)
    pretrained = load_or_train(folder / "cache", SETTINGS, train)
    results.put(
        (pretrained.trained, torch.load(pretrained.path, weights_only=True)["state_dict"]["w"].tolist())
    )


def test_two_processes_train_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(2), context.Queue()
    jobs = [context.Process(target=share, args=(tmp_path, start, results)) for _ in range(2)]
    for job in jobs:
        job.start()
    ends = sorted(results.get(timeout=30) for _ in jobs)
    for job in jobs:
        job.join(30)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert ends == [(False, [1, 1, 1]), (True, [1, 1, 1])]
    assert (tmp_path / "log").read_text() == "trained\n"
