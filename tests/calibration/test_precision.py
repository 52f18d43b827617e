"""A pipeline's precision holds for ANN and SNN in the walk, in its gradients, and afterwards."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from snn_lightning import ACP, LCP, Baseline, Best, Distillation, LeastSquares, Pipeline, Weights, calibrate
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.steps.ridge import RidgeProblem
from snn_lightning.calibration.walk.cache import Cache
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.calibration.walk.resume import fingerprint
from snn_lightning.errors import SettingsError
from snn_lightning.graph import normalise, prepare
from snn_lightning.graph.precision import PRECISIONS
from tests.calibration.support import literal_simulation, make_loop, same_bits
from tests.toys import AS_GIVEN, Residual, Signal, Vector, inputs, toy
from tests.versions import float32_switches

FEW = Weights(4, step_size=0.05, batch_size=8)
PIPELINES = [Baseline, LCP, partial(ACP, weights=FEW), partial(ACP, weights=LeastSquares())]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("cls", [Residual, Signal, Vector])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_walk_sees_the_networks_in_bf16(cls: type[nn.Module], pipeline: Callable[..., Pipeline]) -> None:
    ann, x = toy(cls), inputs(cls, 16)
    loop = make_loop(ann, x, pipeline(6, precision="bf16"))
    records = loop.run()
    for precision, same in (("bf16", True), ("float32", False)):
        loop.ann.precision = loop.snn.precision = precision
        with torch.no_grad():
            expected, got = loop.ann(x), loop.snn(x)
        error = ((expected - got).norm() / expected.norm()).square().item()
        assert (abs(error / records[-1]["error"] - 1) < 1e-3) == same
    loop.snn.precision = "bf16"
    with torch.no_grad():
        mean = literal_simulation(loop.snn, x)[loop.snn.network.stages[-1].name]
        assert (loop.snn(x) - mean).norm() < 1e-2 * mean.norm()


def test_the_result_runs_in_the_pipelines_precision() -> None:
    models = [
        calibrate(toy(Residual), [inputs(Residual)], LCP(4, precision=p), progress=False) for p in PRECISIONS
    ]
    assert [model.precision for model in models] == list(PRECISIONS)
    assert {value.dtype for model in models for value in model.state_dict().values()} == {torch.float32}
    assert not same_bits(models[0], models[2])
    if not torch.cpu._is_amx_fp16_supported():
        assert same_bits(models[0], models[1])


def test_distillation_learns_through_bf16() -> None:
    settings = {"weights": None, "potential": None, "distillation": Distillation(60, batch_size=16)}
    pipeline = Best(4, **AS_GIVEN, **settings, precision="bf16")
    model = calibrate(toy(Vector), [inputs(Vector, 48)], pipeline, progress=False)
    numbers = model.records[-1]["steps"]["distillation"]
    assert numbers["after"] < 0.8 * numbers["before"]


class Switches(Observer):
    """Notes the switches of float32 products while weights learn."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def iteration(self, index: int, done: int, iterations: int, loss: float) -> None:
        self.seen.update(float32_switches())


@pytest.mark.parametrize(("precision", "seen"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_gradients_have_the_precision_and_nothing_else_has(
    precision: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer, solved, add = Switches(), set(), RidgeProblem.add

    def watched(*args: object) -> None:
        solved.update(float32_switches())
        add(*args)

    monkeypatch.setattr(RidgeProblem, "add", watched)
    before = float32_switches()
    for weights in (FEW, LeastSquares()):
        pipeline = ACP(3, **AS_GIVEN, weights=weights, precision=precision)
        run_calibration(toy(Vector), [inputs(Vector, 8)], pipeline, Communicator(), observer)
    assert observer.seen == {seen}
    assert solved == {"ieee"}
    assert float32_switches() == before


def test_an_autocast_around_the_calibration_changes_nothing() -> None:
    ann, x = toy(Residual), inputs(Residual, 16)
    for weights in (FEW, LeastSquares()):
        expected = calibrate(ann, [x], ACP(3, **AS_GIVEN, weights=weights), progress=False)
        with torch.autocast("cpu", torch.bfloat16):
            assert same_bits(
                calibrate(ann, [x], ACP(3, **AS_GIVEN, weights=weights), progress=False), expected
            )


def test_a_partial_calibration_of_another_precision_is_not_taken_up(tmp_path: Path) -> None:
    ann, x = toy(Residual), inputs(Residual, 16)
    network = prepare(normalise(ann, x), x)
    assert len({fingerprint(network, LCP(3, precision=p), [x]) for p in PRECISIONS}) == 3

    class Stop(Observer):
        def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
            assert not resumed or index < 3
            if index == 3 and not list(tmp_path.glob("done")):
                (tmp_path / "done").touch()
                raise KeyboardInterrupt

    pipeline = ACP(3, **AS_GIVEN, weights=FEW, precision="bf16")
    with pytest.raises(KeyboardInterrupt):
        run_calibration(ann, [x], pipeline, Communicator(), Stop(), tmp_path)
    (left,) = tmp_path.glob("*.ckpt")
    assert torch.load(left, weights_only=True)["spec"]["conversion"]["precision"] == "bf16"
    resumed, _ = run_calibration(ann, [x], pipeline, Communicator(), Stop(), tmp_path)
    assert same_bits(resumed, calibrate(ann, [x], pipeline, progress=False))


@pytest.mark.parametrize("wrong", ["float16", True, None])
def test_an_unknown_precision_is_refused(wrong: object) -> None:
    with pytest.raises(SettingsError, match=f"precision must be one of float32, tf32, bf16, got {wrong!r}"):
        LCP(4, precision=wrong)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("weights", [FEW, LeastSquares()])
def test_a_gpu_gives_what_the_cpu_gives(weights: Weights | LeastSquares) -> None:
    ann, x, pipeline = toy(Residual), inputs(Residual, 16), ACP(4, **AS_GIVEN, weights=weights)
    on_cpu = calibrate(ann, [x], pipeline, progress=False)
    on_gpu = calibrate(ann.cuda(), [x], pipeline, progress=False)
    for stage, other in zip(on_cpu.records, on_gpu.records, strict=True):
        assert abs(stage["error"] - other["error"]) < 0.02
    for name, neuron in on_cpu.neurons.items():
        assert torch.allclose(neuron.v_th, on_gpu.neurons[name].v_th.cpu(), rtol=1e-3), name


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_host_keeps_what_a_gpu_computes(precision: str) -> None:
    ann, x = toy(Residual).cuda(), inputs(Residual, 40)
    models = [
        calibrate(ann, [x], ACP(4, **AS_GIVEN, weights=FEW, precision=precision, **settings), progress=False)
        for settings in ({}, {"cache_place": "host"}, {"cache_place": "host", "cache_budget_gb": 4e-5})
    ]
    assert same_bits(models[0], models[1])
    assert same_bits(models[0], models[2])


@pytest.mark.gpu
@needs_gpu
def test_copies_to_the_host_are_pinned_and_in_order(tmp_path: Path) -> None:
    cache = Cache(place="host", directory=tmp_path)
    x = torch.rand(8, 32, 64, 64, device="cuda").contiguous(memory_format=torch.channels_last)
    expected, entries = x.clone(), []
    for _ in range(4):
        entries.append(cache.put(x))
        # What comes later on the device must not reach the copies that are on their way.
        x.add_(1)
        assert entries[-1].tensor.is_pinned()
        assert entries[-1].tensor.is_contiguous(memory_format=torch.channels_last)
    entries[0].spill()
    for step, entry in enumerate(entries):
        got = entry.get()
        entry.free()
        assert got.is_cuda
        assert got.stride() == expected.stride()
        for _ in range(step):
            got = got - 1
        assert torch.allclose(got, expected, atol=1e-5)
    assert cache.used == 0
    cache.close()
