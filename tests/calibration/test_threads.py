"""Threads convert and calibrate at once, and each gets what it would get alone."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from snn_lightning import (
    ACP,
    LCP,
    Best,
    Distillation,
    LeastSquares,
    Pipeline,
    SpikingModel,
    Weights,
    calibrate,
    convert,
)
from snn_lightning.graph.capture.trace import trace
from tests.calibration.support import same_bits
from tests.toys import Dense, MaxPooled, PlainConv, Residual, inputs, toy

Job = tuple[nn.Module, type[nn.Module], Pipeline]
WORK: list[Job] = [
    (toy(Residual), Residual, LCP(4)),
    (toy(PlainConv), PlainConv, ACP(4, weights=Weights(6, batch_size=8), convert_avg_pool=True)),
    (toy(Dense), Dense, ACP(4, weights=LeastSquares())),
    (toy(MaxPooled), MaxPooled, Best(4, distillation=Distillation(6, batch_size=8))),
]


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    """Let threads interrupt each other far more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Start all calls at the same time, each in a thread of its own; return what they give."""
    barrier = threading.Barrier(len(calls))

    def call(function: Callable[[], Any]) -> Any:
        barrier.wait(10)
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(60) for future in [pool.submit(call, function) for function in calls]]


def work(job: Job) -> tuple[SpikingModel, SpikingModel]:
    ann, cls, pipeline = job
    images = inputs(cls, 24)
    loader = DataLoader(TensorDataset(images), batch_size=8, shuffle=True)
    return convert(ann, images, 4), calibrate(ann, loader, pipeline, progress=False)


def test_threads_get_what_each_gets_alone() -> None:
    """Four networks, each in two threads."""
    state = torch.get_rng_state()
    expected = [work(job) for job in WORK]
    for ann, _, _ in WORK:
        ann.train()
    got = at_once([lambda job=job: work(job) for job in 2 * WORK])
    for ours, theirs in zip(got, 2 * expected, strict=True):
        assert all(map(same_bits, ours, theirs))
    assert all(module.training for ann, _, _ in WORK for module in ann.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_runs_while_another_thread_traces_does_not_notice() -> None:
    ann, x, done = toy(Residual), inputs(Residual, 4), threading.Event()
    expected, alone, call = ann(x), trace(ann).graph.python_code("self").src, nn.Module.__call__

    def tracing() -> list[str]:
        try:
            return [trace(ann).graph.python_code("self").src for _ in range(30)]
        finally:
            done.set()

    def running() -> list[torch.Tensor]:
        outputs = []
        while not done.is_set():
            outputs.append(ann(x))
        return outputs

    first, second, outputs, more = at_once([tracing, tracing, running, running])
    assert {*first, *second} == {alone}
    assert outputs
    assert all(torch.equal(output, expected) for output in (*outputs, *more))
    assert nn.Module.__call__ is call
