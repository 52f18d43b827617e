"""Memory between values that stay goes back to the system."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from snn_lightning.calibration.walk import cache as cache_module
from snn_lightning.calibration.walk import memory
from snn_lightning.calibration.walk.cache import TRIM_EVERY, Cache

PROGRAM = """
import runpy, sys
import torch
trim_heap = runpy.run_path(sys.argv[1])["trim_heap"]  # without the package, which takes longer
def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
del (first := [torch.ones(8 << 18)])[:]  # From now on tensors of 8 MB come from the heap.
large, small = [], []
for _ in range(40):
    large.append(torch.ones(8 << 18))
    small.append(torch.ones(40000))
large.clear()
before = resident()
trim_heap()
print(before - resident())
assert all(int(x.sum()) == 40000 for x in small)
"""


@pytest.mark.skipif(memory._trim() is None or sys.platform != "linux", reason="needs glibc")
def test_free_memory_between_kept_values_is_given_back() -> None:
    command = [sys.executable, "-c", PROGRAM, memory.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 200


def test_the_cache_does_it_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(cache_module, "trim_heap", lambda: calls.append(1))
    cache = Cache()
    for _ in range(2 * TRIM_EVERY + 1):
        cache.put(torch.zeros(1)).free()
    assert len(calls) == 2


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._trim.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    memory.trim_heap()
    assert memory._trim() is None
    memory._trim.cache_clear()
