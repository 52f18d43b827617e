"""Run the programs as a user does: in this process, in a new one, or in a new interpreter."""

import contextlib
import io
import json
import logging
import os
import resource
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.processes import ROOT, fork

MODEL = ["model=vgg16_bn", "model.width=0.0625", "trainer=cpu", "trainer.max_epochs=4"]
SMALL = [*MODEL, "data.calibration_images=32", "data.test_images=120", "T=2"]
ACP = [*SMALL, "pipeline.weights.iterations=3", "pipeline.weights.batch_size=16"]
QUIET = ["logger=none", "report=false"]
"""Without the files that take the most time, in runs whose files are not looked at."""
QUIET_ACP = [*ACP, *QUIET]
BASELINE = [*SMALL, "pipeline=baseline", *QUIET]
STAGES = 14
"""Sites of VGG-16, and the readout."""


@dataclass(frozen=True)
class Finished:
    """A program that has ended: its exit status, what it printed, and its folder."""

    code: int
    output: str
    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.folder / "results.json").read_text())

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return torch.load(self.folder / "snn.ckpt", weights_only=True)["state_dict"]

    @property
    def stage_lines(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("[ ")]


def run(folder: Path, *overrides: str, cache: Path, script: str = "calibrate.py") -> Finished:
    """Run a program in this process, with its results in `folder`."""
    given = [*overrides, f"cache_dir={cache}", f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    return in_process(ROOT / script, folder, *given)


def in_process(script: Path, folder: Path, *arguments: str) -> Finished:
    """Run a Python file as the main program, inside `folder`, and put everything global back."""
    folder.mkdir(parents=True, exist_ok=True)
    output = io.StringIO()
    code = 0
    with _restored(), contextlib.chdir(folder):
        sys.argv = [str(script), *arguments]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as error:
                # What the interpreter does with it.
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
                if isinstance(error.code, str):
                    output.write(f"{error.code}\n")
    return Finished(code, output.getvalue(), folder)


def in_new_process(script: Path, folder: Path, *arguments: str) -> Finished:
    """Run a Python file inside `folder`, in a process that has the imports behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    process = fork(script, *arguments, folder=folder)
    output, _ = process.communicate()
    return Finished(process.returncode, output, folder)


def in_new_interpreter(folder: Path, *arguments: str) -> Finished:
    """Run `python ...` inside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return Finished(done.returncode, done.stdout + done.stderr, folder)


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may become larger than `size` bytes; the system refuses as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    arguments, environment, path = sys.argv, dict(os.environ), list(sys.path)
    handlers, level = list(root.handlers), root.level
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            yield
    finally:
        sys.argv, sys.path[:], root.handlers[:] = arguments, path, handlers
        root.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)
