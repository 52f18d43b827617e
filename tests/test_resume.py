"""A calibration that is killed goes on where it was when the same command is run again."""

import shutil
import signal
from pathlib import Path

import torch

from tests.commands import ACP, QUIET, ROOT, STAGES, Finished, in_new_process, run

KILLED = f"""\
import os, runpy, signal
from snn_lightning.callbacks.observer import LoggingObserver

told = LoggingObserver.iteration

def iteration(self, index, done, iterations, loss):
    told(self, index, done, iterations, loss)
    if index == 5 and done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

LoggingObserver.iteration = iteration
runpy.run_path({str(ROOT / "calibrate.py")!r}, run_name="__main__")
"""


def test_a_killed_calibration_goes_on_at_the_first_unfinished_stage(
    calibrated: Finished, tmp_path: Path
) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "run"
    cache.mkdir()
    shutil.copy(calibrated.results["checkpoint"], cache)
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    killed = in_new_process(program, folder, *ACP, f"cache_dir={cache}", f"hydra.run.dir={folder}")
    assert killed.code == -signal.SIGKILL, killed.output
    # Pytest keeps warnings to itself; a process of its own shows what a user sees.
    assert "LeafSpec" not in killed.output
    assert "Warning" not in killed.output
    assert [line[:8] for line in killed.stage_lines] == [f"[{k:>3}/{STAGES}]" for k in range(1, 6)]
    assert not list(folder.glob("*.ckpt"))
    assert not (folder / "results.json").exists()
    (partial,) = (cache / "partial").iterdir()
    assert torch.load(partial, weights_only=True)["finished"] == 5

    other = run(tmp_path / "other", *ACP, *QUIET, "threshold=max", cache=cache)
    assert len(other.stage_lines) == STAGES  # another calibration has nothing to go on from
    assert list((cache / "partial").iterdir()) == [partial]

    again = run(folder, *ACP, *QUIET, cache=cache)
    assert again.code == 0, again.output
    assert f"Going on after stage 5/{STAGES}" in again.output
    assert [line[:8] for line in again.stage_lines] == [f"[{k:>3}/{STAGES}]" for k in range(6, STAGES + 1)]
    assert again.state.keys() == calibrated.state.keys()
    for key, value in calibrated.state.items():
        assert torch.equal(again.state[key], value), key
    for key in ("ann_accuracy", "snn_accuracy", "accuracy_over_time"):
        assert again.results[key] == calibrated.results[key]
    assert len(again.results["stages"]) == STAGES
    assert not list((cache / "partial").iterdir())
