"""benchmarks/gpu.sh: it runs on a CPU with tiny sizes, and no part stops the others."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import ROOT, in_process


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the benchmarks, whose modules can be imported."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return ROOT / "benchmarks"


def test_a_tiny_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = [str(ROOT / "benchmarks" / "gpu.sh"), "--tiny", "--output", "results"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert set(results) == {"tiny", "sizes", "machine", "parts"}
    assert results["machine"]["torch"] == torch.__version__
    assert {name: part["state"] for name, part in results["parts"].items()} == dict.fromkeys(
        [
            "tests",
            "calibration lcp T=2",
            "calibration acp T=2",
            "simulation resnet34",
            "simulation mobilenet",
            "simulation vgg16_bn",
            "kernels",
        ],
        "done",
    )
    rows = {name: part["rows"] for name, part in results["parts"].items()}
    (tests,) = rows["tests"]
    (acp,) = rows["calibration acp T=2"]
    assert acp["published, RTX 4090, s"] == 829
    assert 0 < acp["relative error of the readout"] < 1
    *variants, graph = rows["simulation vgg16_bn"]
    assert all(row["SNN / T ANN passes"] > 0 and 0.05 < row["firing rate"] < 0.5 for row in variants)
    if not torch.cuda.is_available():
        assert " skipped" in tests["summary"]
        assert graph["failed"] == "RuntimeError: a CUDA graph needs a CUDA device"
    page = (tmp_path / "results" / "gpu.md").read_text()
    assert page.startswith(f"# {results['machine']['device']}, tiny sizes\n")
    assert f"torch {torch.__version__}" in page
    assert page in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing(benchmarks: Path, tmp_path: Path) -> None:
    done = in_process(benchmarks / "gpu.py", tmp_path, "--output", str(tmp_path / "results"))
    assert done.code == 1
    assert "No CUDA device: torch is" in done.output
    assert not (tmp_path / "results").exists()


def fine() -> Iterator[dict[str, Any]]:
    yield {"a": 1}


def raises() -> Iterator[dict[str, Any]]:
    yield {"a": 1}
    raise torch.OutOfMemoryError("2 GiB | wanted")


def dies() -> Iterator[dict[str, Any]]:
    yield {"a": 1}
    os._exit(3)


def lasts() -> Iterator[dict[str, Any]]:
    yield {"a": 1}
    time.sleep(60)


def test_a_part_that_fails_keeps_its_rows(benchmarks: Path) -> None:
    from parts import markdown, run_part

    parts = {
        run.__name__: run_part(run, limit) for run, limit in ((fine, 9), (raises, 9), (dies, 9), (lasts, 0.5))
    }
    parts["late"] = run_part(fine, -1)
    states = {name: part["state"] for name, part in parts.items()}
    assert states == {
        "fine": "done",
        "raises": "done",
        "dies": "died with exit status 3",
        "lasts": "stopped: no time left after 0 s",
        "late": "left out: no time left",
    }
    assert [len(part["rows"]) for part in parts.values()] == [1, 2, 1, 1, 0]
    assert parts["raises"]["rows"][1] == {"failed": "OutOfMemoryError: 2 GiB | wanted"}
    page = markdown({"tiny": False, "machine": {"device": "NVIDIA X", "driver": None}, "parts": parts})
    table = "| a | failed |\n| --- | --- |\n| 1 |  |\n|  | OutOfMemoryError: 2 GiB / wanted |\n"
    assert f"## raises\n\ndone, 0 s\n\n{table}" in page
