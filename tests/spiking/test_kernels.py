"""Every fast form of a neuron gives the bits of the plain one."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_lightning import ACP, LCP, Weights, calibrate, convert
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import kernels
from snn_lightning.spiking.kernels import cpu, native, reference
from snn_lightning.spiking.kernels.layout import SMALL, Layout
from tests.toys import TOYS, MaxPooled, Residual, inputs, toy
from tests.versions import release

needs_compiler = pytest.mark.skipif(native.library() is None, reason="needs a C compiler")

SHAPES = [(3, 5), (1, 700), (2, 3, 4), (2, 4, 11, 13), (3, 16, 8, 8), (1, 2, 3, 9, 10)]


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    """Currents, parameters and initial potentials of any shape and memory order."""
    steps = draw(st.integers(1, 9))
    shape = draw(st.sampled_from(SHAPES))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    static, with_state, overwrite = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))

    def rand(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=dtype)

    current = rand(*(() if static else (steps,)), *shape) * 1.2 - 0.3
    if len(shape) == 4 and draw(st.booleans()):
        current = current.movedim(-3, -1).contiguous().movedim(-1, -3)
    channels = (shape[1], *[1] * (len(shape) - 2))
    v_th = draw(st.sampled_from([rand(*channels) + 0.2, rand() + 0.2]))
    bias = draw(st.sampled_from([rand(*channels) * 0.2, torch.zeros((), dtype=dtype)]))
    per_image = rand(*shape[1:]) if draw(st.booleans()) else v_th / 2
    start = rand(*shape) if with_state else per_image
    return {
        "current": current,
        "start": start,
        "v_th": v_th,
        "bias": bias,
        "steps": steps,
        "static": static,
        "overwrite": overwrite,
    }


def arguments(case: dict[str, Any], last: str) -> tuple[Any, ...]:
    names = ("current", "start", "v_th", "bias", "steps", "static")
    values = [case[name].clone() if isinstance(case[name], Tensor) else case[name] for name in names]
    return (*values, case.get(last, True))


@needs_compiler
@settings(max_examples=150, deadline=None)
@given(cases())
def test_the_cpu_kernel_simulates_bit_for_bit(case: dict[str, Any]) -> None:
    expected, expected_end = reference.simulate(*arguments(case, "overwrite"))
    spikes, end = cpu.simulate(*arguments(case, "overwrite"))
    assert torch.equal(spikes, expected)
    assert torch.equal(end, expected_end)
    assert spikes.dtype == expected.dtype


@needs_compiler
@settings(max_examples=150, deadline=None)
@given(cases())
def test_the_cpu_kernel_counts_and_packs_bit_for_bit(case: dict[str, Any]) -> None:
    spikes, expected_end = reference.simulate(*arguments(case, "overwrite"))
    layout = Layout.of(case["current"] if case["static"] else case["current"][0])
    for module in (cpu, reference):
        counts, bits, end = module.count(*arguments(case, "pack"))
        assert torch.equal(counts, (spikes != 0).sum(0).to(counts.dtype))
        assert torch.equal(end, expected_end)
        assert torch.equal(bits, reference.pack_bits(spikes != 0, layout))
        back = module.unpack(bits, case["v_th"], layout)
        assert torch.equal(back, spikes)
        assert Layout.of(back[0]) == layout


@needs_compiler
@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 99))
def test_the_cpu_kernels_gradients_are_those_of_the_plain_version(case: dict[str, Any], seed: int) -> None:
    case = {key: x.double() if isinstance(x, Tensor) else x for key, x in case.items()}
    generator = torch.Generator().manual_seed(seed)
    steps, static = case["steps"], case["static"]
    shape = case["current"].shape[0 if static else 1 :]
    weights = torch.randn(steps + 1, *shape, generator=generator, dtype=torch.float64)
    results = []
    for kernel in kernels.KERNELS:
        leaves = [case[name].clone().requires_grad_() for name in ("current", "start", "v_th", "bias")]
        with kernels.use_kernel(kernel), mock.patch.object(cpu, "gradients", wraps=cpu.gradients) as fast:
            spikes, end = kernels.simulate(*leaves, steps, static=static)
            loss = (weights[:-1] * spikes).sum() + (weights[-1] * end).sum()
            results.append([spikes.detach(), end.detach(), *torch.autograd.grad(loss, leaves)])
        assert fast.called == (kernel == "auto")
    assert results[0][0].stride() == results[1][0].stride()
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-11)


@needs_compiler
def test_overwriting_saves_memory_and_only_when_asked() -> None:
    current, v_th = torch.rand(4, 2, 3, 8, 8), torch.rand(3, 1, 1) + 0.5
    kept = current.clone()
    zero = torch.zeros(())
    apart, _ = kernels.simulate(current, v_th / 2, v_th, zero, 4)
    assert torch.equal(current, kept)
    inside, _ = kernels.simulate(current, v_th / 2, v_th, zero, 4, overwrite=True)
    assert inside.data_ptr() == current.data_ptr()
    assert torch.equal(inside, apart)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    current, v_th, zero = torch.rand(4, 3, 5, 20, 20), torch.rand(5, 1, 1) + 0.5, torch.zeros(())
    expected, _ = reference.simulate(current, v_th / 2, v_th, zero, 4, False, False)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        spikes, _ = cpu.simulate(current, v_th / 2, v_th, zero, 4, False, False)
        _, bits, _ = cpu.count(current, v_th / 2, v_th, zero, 4, False, True)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(spikes, expected)
    assert torch.equal(cpu.unpack(bits, v_th, Layout.of(current[0])), expected)


@needs_compiler
@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([(4, 3), (3, 6, 5, 5), (2, 2, 700)]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 99),
)
def test_the_histograms_are_equal(shape: tuple[int, ...], last: bool, dtype: torch.dtype, seed: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).clamp(min=-0.1)
    if last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    line = torch.arange(shape[1], dtype=torch.int32) // 2
    scale = 16 / x.transpose(0, 1).flatten(1).amax(1).clamp(min=0.1)
    tables = []
    for module in (cpu, reference):
        table = torch.zeros((shape[1] + 1) // 2, 16, 2, dtype=torch.float64)
        for _ in range(2):
            module.histogram(x, line, scale, table)
        tables.append(table)
    assert torch.equal(tables[0][..., 0], tables[1][..., 0])
    assert torch.allclose(*tables, rtol=1e-12)


@needs_compiler
@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        [(4, 3), (70, 40), (3, 6, 5, 5), (2, 2, 700), (5, 24, 4, 4), (2, 33, 30, 30), (0, 3, 2, 2)]
    ),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 99),
)
def test_the_sums_of_activations_are_equal(
    shape: tuple[int, ...], last: bool, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(shape, generator=generator, dtype=dtype) - 1 for _ in range(2))
    if last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(cpu.error_sums(x, y), reference.error_sums(x, y), rtol=1e-12, atol=1e-9)
    if len(x):
        for got, expected in zip(cpu.maxima_and_squares(x), reference.maxima_and_squares(x), strict=True):
            assert torch.allclose(got, expected, rtol=1e-12)


@needs_compiler
def test_sums_of_activations_are_float64() -> None:
    x = torch.full((4096, 3), 1e-25)
    x[0] = 3e25
    sums = cpu.error_sums(x, torch.zeros_like(x))
    assert torch.allclose(sums[1:], torch.full_like(sums[1:], 9e50), rtol=1e-6)
    for module in (cpu, reference):
        for values in module.maxima_and_squares(torch.tensor([[float("nan"), 1.0], [2.0, 3.0]])):
            assert values.isnan().tolist() == [True, False]


@needs_compiler
@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 99))
def test_picked_entries_are_equal(lines: int, bins: int, alike: bool, edges: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tables = [torch.rand(lines, bins, 2, generator=generator, dtype=torch.float64)] * 2
    for table, module in zip(tables := [t.clone() for t in tables], (cpu, reference), strict=True):
        module.cumulate(table)
    assert torch.allclose(*tables, rtol=1e-12)
    shape = (7, 3) if alike else (lines, 7, 3)
    position = torch.rand(shape, generator=generator, dtype=torch.float64) * bins
    position = position.round() if edges else position
    position[..., 0, 0], position[..., 1, 0] = 0, bins
    weight = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64)
    sums = [module.sums_below(tables[0], position, weight) for module in (cpu, reference)]
    assert torch.allclose(*sums, rtol=1e-12)


def triton_kernel(**environment: str) -> str:
    command = [sys.executable, "-m", "tests.spiking.triton_interpreted"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_gpu_kernel_is_right_in_tritons_interpreter() -> None:
    triton = pytest.importorskip("triton")
    if release(triton.__version__) < (3, 7) and release(numpy.__version__) >= (2, 4):
        pytest.skip("Triton's interpreter needs NumPy before 2.4, or Triton 3.7")
    assert triton_kernel(TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="").count("equal") == 24


@pytest.mark.parametrize(
    ("kernel", "flags"),
    [
        ("_integrate_and_fire", {"SPIKES": True, "BITS": False}),
        ("_integrate_and_fire", {"SPIKES": False, "BITS": True}),
        # One step of one row: what is 1 is compiled in.
        ("_integrate_and_fire", {"SPIKES": False, "BITS": False, "steps": 1, "blocks": 1}),
        ("_unpack", {}),
    ],
)
def test_the_gpu_kernels_compile_for_a_gpu(
    kernel: str, flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interpreter runs what the compiler refuses.
    triton = pytest.importorskip("triton")
    compiler = pytest.importorskip("triton.backends.compiler")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from snn_lightning.spiking.kernels import gpu

    function, constants = getattr(gpu, kernel), {**flags, "SIZE": gpu.BLOCK}
    types = {name: "*fp32" for name in ("current", "start", "v_th", "bias", "spikes", "end", "counts")}
    types |= {"bits": "*u8"} | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in function.arg_names}
    source = triton.compiler.ASTSource(function, signature, constants)
    assert "cubin" in triton.compile(source, target=compiler.GPUTarget("cuda", 90, 32)).asm


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_kernel_is_right_on_a_gpu() -> None:
    assert triton_kernel().count("equal") == 24
    x = inputs(Residual, 5).cuda()
    snn = convert(toy(Residual).cuda(), x, 6)
    fast = snn.spikes(x)
    with kernels.use_kernel("reference"):
        for name, train in snn.spikes(x).items():
            assert torch.equal(fast[name], train)


def test_a_layout_by_hand() -> None:
    x = torch.zeros(2, 3, 20, 10).contiguous(memory_format=torch.channels_last)
    layout = Layout.of(x)
    assert layout.order == (2, 3, 1)
    assert (layout.rows, layout.places) == (2, 600)
    assert Layout.of(torch.zeros(4, SMALL - 1)).rows == 1
    fired = torch.zeros(1, 1, 9, dtype=torch.bool)
    fired[0, 0, [0, 3, 8]] = True
    assert reference.pack_bits(fired, Layout.of(fired[0])).tolist() == [[[0b1001, 0b1]]]


@needs_compiler
@pytest.mark.parametrize("cls", TOYS)
def test_whole_networks_fire_the_same_spikes(cls: type[torch.nn.Module]) -> None:
    x = inputs(cls, 5)
    snn = convert(toy(cls), x, 6)
    fast, mean = snn.spikes(x), snn(x)
    with kernels.use_kernel("reference"):
        for name, train in snn.spikes(x).items():
            assert torch.equal(fast[name], train)
        assert torch.equal(snn(x), mean)


@needs_compiler
@pytest.mark.parametrize("cls", [Residual, MaxPooled])
@pytest.mark.parametrize("pipeline", [LCP(4), ACP(4, weights=Weights(iterations=5, batch_size=4))])
def test_calibrations_are_the_same_bit_for_bit(cls: type[torch.nn.Module], pipeline: Any) -> None:
    x = inputs(cls, 8)
    fast = calibrate(toy(cls), [x], pipeline, progress=False).state_dict()
    with kernels.use_kernel("reference"):
        slow = calibrate(toy(cls), [x], pipeline, progress=False).state_dict()
    for key, value in fast.items():
        assert torch.equal(value, slow[key]), key


def test_the_kernel_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_LIGHTNING_KERNEL", raising=False)
    assert kernels.chosen_kernel() == "auto"
    monkeypatch.setenv("SNN_LIGHTNING_KERNEL", "reference")
    assert kernels.chosen_kernel() == "reference"
    with kernels.use_kernel("auto"):
        assert kernels.chosen_kernel() == "auto"
    assert kernels.chosen_kernel() == "reference"
    message = r"kernel \(SNN_LIGHTNING_KERNEL\) must be one of auto, reference, got 'fast'"
    with pytest.raises(SettingsError, match=message), kernels.use_kernel("fast"):
        pass
    monkeypatch.setenv("SNN_LIGHTNING_KERNEL", "fast")
    with pytest.raises(SettingsError, match=message):
        kernels.chosen_kernel()


def test_what_the_cpu_kernel_cannot_work_on() -> None:
    assert not cpu.usable(torch.ones(2, 2, requires_grad=True))
    assert not cpu.usable(torch.ones(2, 2, dtype=torch.bfloat16))
    assert not cpu.usable(torch.ones(2, 2, device="meta"))


def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, **environment: str) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return native.library.__wrapped__()


def test_without_a_compiler_neurons_run_in_pytorch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    assert build(monkeypatch, tmp_path) is None
    assert "No C compiler found: neurons run in plain PyTorch" in caplog.text


def test_a_compiler_that_fails_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert build(monkeypatch, tmp_path, CC="false") is None
    assert "false failed" in caplog.text
    assert list((tmp_path / "snn_lightning").iterdir()) == []


@needs_compiler
def test_the_library_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    assert build(monkeypatch, tmp_path) is not None
    (path,) = (tmp_path / "snn_lightning").iterdir()
    monkeypatch.setattr(native.subprocess, "run", lambda *a, **k: pytest.fail("built again"))
    assert build(monkeypatch, tmp_path) is not None
    assert path.suffix == ".so"


@needs_compiler
def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "snn_lightning").write_text("a file where the folder should be")
    assert build(monkeypatch, tmp_path) is not None


@needs_compiler
def test_without_openmp_it_is_built_for_one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    run = subprocess.run

    def refuse(command: list[str], **settings: Any) -> Any:
        return run(["false"] if "-fopenmp" in command else command, **settings)

    monkeypatch.setattr(native.subprocess, "run", refuse)
    assert build(monkeypatch, tmp_path) is not None
