"""A killed calibration goes on at the first unfinished stage, and ends as if nothing had happened."""

import dataclasses
import functools
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from snn_lightning import ACP, LCP, MMSE, Baseline, Bias, Max, Percentile, Weights, calibrate
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.resume import PartialCheckpoint, fingerprint
from snn_lightning.errors import CheckpointError
from snn_lightning.graph import normalise, prepare
from snn_lightning.thresholds import Threshold, register_threshold
from tests.calibration.support import same_bits
from tests.processes import finish, fork
from tests.toys import PlainConv, Residual, inputs, toy

INTERRUPTED = Path(__file__).parents[1] / "interrupted.py"
PIPELINE = ACP(3, weights=Weights(4, step_size=0.05, batch_size=8))
IMAGES = inputs(Residual, 16)


def test_a_killed_process_goes_on_at_the_first_unfinished_stage(tmp_path):
    process = fork(INTERRUPTED, tmp_path, 2)
    while "waiting" not in process.output() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    lines = process.communicate()[0].splitlines()
    begun = ["started 0", "sgd 0", "finished 0", "started 1", "sgd 1", "finished 1", "started 2", "sgd 2"]
    assert lines == [*begun, "waiting 2"]
    assert process.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert torch.load(left, weights_only=True)["finished"] == 2

    ((code, output),) = finish(fork(INTERRUPTED, tmp_path, -1))
    lines = output.splitlines()
    assert code == 0
    assert lines[:5] == ["resumed 0", "resumed 1", "started 2", "sgd 2", "finished 2"]
    assert lines[-3:] == ["records 0 1 2 3 4 5", "same True", "errors True"]
    assert list(tmp_path.iterdir()) == []


class Stop(Observer):
    """Breaks off when stage `at` begins, and notes what is resumed."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.resumed = at, []

    def stage_started(self, index, total, name, resumed):
        self.resumed.append(resumed)
        if index == self.at:
            raise KeyboardInterrupt


def attempt(folder, pipeline=PIPELINE, at=-1, images=IMAGES, ann=None):
    observer = Stop(at)
    ann = ann if ann is not None else toy(Residual)
    model, left = run_calibration(ann, [images], pipeline, Communicator(), observer, partial=folder)
    if left is not None:
        left.remove()
    return model, observer.resumed


@functools.cache
def undisturbed(pipeline=PIPELINE):
    return attempt(None, pipeline)[0]


def break_off(folder, at, **changes):
    with pytest.raises(KeyboardInterrupt):
        attempt(folder, at=at, **changes)
    (left,) = folder.iterdir()
    return left


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("budget", [None, 1e-9], ids=["memory", "disk"])
def test_goes_on_wherever_it_was_broken_off(at, budget, tmp_path):
    pipeline = dataclasses.replace(PIPELINE, cache_budget_gb=budget)
    expected = undisturbed(pipeline)
    break_off(tmp_path, at, pipeline=pipeline)
    model, resumed = attempt(tmp_path, pipeline)
    assert resumed == [index < at for index in range(6)]
    assert same_bits(model, expected)
    assert model.status == "calibrated"
    assert [record["steps"] for record in model.records] == [record["steps"] for record in expected.records]


def test_may_be_broken_off_more_than_once(tmp_path):
    for at in (1, 2, 4):
        break_off(tmp_path, at)
    model, resumed = attempt(tmp_path)
    assert resumed == [True] * 4 + [False] * 2
    assert same_bits(model, undisturbed())


def test_a_complete_calibration_is_kept_until_its_model_is_safe(tmp_path):
    expected, left = run_calibration(toy(Residual), [IMAGES], PIPELINE, Communicator(), Observer(), tmp_path)
    assert left is not None
    assert left.path.exists()
    model, resumed = attempt(tmp_path)
    assert resumed == [True] * 6
    assert same_bits(model, expected)
    assert model.status == "calibrated"


def test_a_complete_run_leaves_nothing(tmp_path):
    calibrate(toy(Residual), [IMAGES], PIPELINE, partial=tmp_path / "new", progress=False)
    assert list((tmp_path / "new").iterdir()) == []


def test_what_is_left_says_partial_and_holds_plain_values(tmp_path):
    contents = torch.load(break_off(tmp_path, 2), weights_only=True)
    assert contents["spec"]["status"] == "partial"
    assert [record["index"] for record in contents["records"]] == [0, 1]


def test_a_damaged_file(tmp_path):
    left = break_off(tmp_path, 2)
    content = bytearray(left.read_bytes())
    weight = max(torch.load(left, weights_only=True)["state_dict"].values(), key=torch.numel)
    content[content.index(weight.permute(0, 2, 3, 1).numpy().tobytes()) + 9] ^= 1
    left.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"partial\.ckpt' can't be read \(the checksum of .*it is damaged"
    ):
        attempt(tmp_path)
    assert left.exists()


def test_the_file_of_another_calibration(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    mine = break_off(two, 2)
    break_off(one, 2, pipeline=dataclasses.replace(PIPELINE, seed=1)).replace(mine)
    with pytest.raises(CheckpointError, match=r"belongs to another network, data set or setting\. Delete it"):
        attempt(two)


def test_other_calibrations_do_not_meet(tmp_path):
    """Each has a file of its own: neither starts where the other stopped."""
    break_off(tmp_path, 2)
    _, resumed = attempt(tmp_path, dataclasses.replace(PIPELINE, seed=1))
    assert not any(resumed)
    assert len(list(tmp_path.iterdir())) == 1


@register_threshold
@dataclasses.dataclass(frozen=True)
class Twice(Threshold):
    def find(self, histogram, timesteps, half_step):
        return 2 * histogram.maximum


def test_the_fingerprint_sees_everything():
    images = inputs(PlainConv)

    def key(cls=PlainConv, seed=0, pipeline=None, images=images):
        network = prepare(normalise(toy(cls, seed), images), images)
        return fingerprint(network, pipeline or LCP(4), [images])

    other = images.clone()
    other[-1, -1, -1, -1] += 1e-6
    keys = [
        key(),
        key(cls=Residual),
        key(seed=1),
        key(images=other),
        key(images=images.flip(0)),
        key(images=images[:-1]),
        *(key(pipeline=p) for p in (LCP(8), LCP(4, seed=1), Baseline(4), ACP(4), LCP(4, bias=Bias(4)))),
        *(
            key(pipeline=LCP(4, threshold=t))
            for t in (Max(), Twice(), MMSE("layer"), MMSE(grid=50), Percentile())
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == key()
    assert fingerprint(normalise(toy(PlainConv), images), LCP(4), images.split(3)) == key()


class FullDisk(Observer):
    """No file can grow any more once stage `at` is finished."""

    def __init__(self, at: int) -> None:
        self.at = at

    def stage_finished(self, record, total):
        if record.index == self.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, self.hard))

    def __enter__(self):
        self.soft, self.hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        return self

    def __exit__(self, *exception):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.soft, self.hard))


def test_a_full_disk_leaves_the_earlier_file(tmp_path):
    with pytest.raises(CheckpointError, match="What was there before is unchanged"):
        run_calibration(toy(Residual), [IMAGES], PIPELINE, Communicator(), FullDisk(2), partial=tmp_path)
    (left,) = tmp_path.iterdir()
    assert torch.load(left, weights_only=True)["finished"] == 2
    model, resumed = attempt(tmp_path)
    assert resumed == [True, True, False, False, False, False]
    assert same_bits(model, undisturbed())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Could not write .*choose another folder"):
        attempt(tmp_path / "file" / "folder")


def test_nothing_to_load(tmp_path):
    partial = PartialCheckpoint(tmp_path / "none.ckpt", "key")
    assert partial.load() is None
    partial.remove()
