"""Synapses compute in the precision that is asked for, and nothing of it is left behind."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning.errors import SettingsError
from snn_lightning.graph.operators import PositionwiseLinear
from snn_lightning.graph.precision import (
    PRECISIONS,
    check_precision,
    compute,
    float32_products,
)
from tests.versions import SET_BY_NAME, float32_switches

SYNAPSES: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), (4, 9)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 7, 7)),
    (nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect", bias=False), (4, 7, 7)),
    (nn.Conv3d(2, 3, 2, dilation=2), (2, 5, 5, 5)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (4, 5)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 5)),
    (nn.ConvTranspose3d(2, 3, 2, bias=False), (2, 3, 3, 3)),
    (nn.Linear(12, 5), (12,)),
    (PositionwiseLinear(12, 5), (3, 12)),
]


def multiples(shape: Any, of: float, seed: int) -> Tensor:
    """Numbers in {-1, 0, 1} times `of`, whose products add up without rounding in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 2, tuple(shape), generator=generator).float() * of


@pytest.mark.parametrize(("synapse", "shape"), SYNAPSES, ids=lambda x: type(x).__name__)
def test_bf16_rounds_inputs_and_weights_and_no_bias(synapse: nn.Module, shape: tuple[int, ...]) -> None:
    # bfloat16 has eight bits and makes 257 a power of two, so that sums of products are exact.
    x, weight = multiples((2, *shape), 257, 1), multiples(synapse.weight.shape, 257, 2)
    synapse.weight.data = weight
    if synapse.bias is not None:
        synapse.bias.data = multiples(synapse.bias.shape, 1 / 7, 3)
    got = compute(synapse, (x,), "bf16")
    assert got.dtype == torch.float32

    exact = copy.deepcopy(synapse).double()
    assert not torch.allclose(got, exact(x.double()).float(), rtol=1e-4)
    exact.weight.data = exact.weight / 257 * 256
    # The bias is added in float32, and last.
    torch.testing.assert_close(got, exact(x.double() / 257 * 256).float(), rtol=1e-6, atol=1e-6)


def test_bf16_rounds_sums() -> None:
    synapse = nn.Linear(300, 1, bias=False)
    synapse.weight.data.fill_(1.0)
    # 300 - 1 = 299 lies halfway between the neighbours 298 and 300.
    x = torch.cat([torch.ones(1, 299), torch.zeros(1, 1)], 1)
    assert compute(synapse, (x,), "bf16").item() in (298.0, 300.0)
    assert compute(synapse, (x,), "float32").item() == 299.0


def test_bf16_passes_gradients_to_the_float32_weights() -> None:
    synapse, x = nn.Linear(3, 2), torch.tensor([[1.0, 2.0, 4.0]])
    compute(synapse, (x,), "bf16").sum().backward()
    assert torch.equal(synapse.weight.grad, x.expand(2, 3))
    assert torch.equal(synapse.bias.grad, torch.ones(2))
    assert synapse.weight.dtype == synapse.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_channels_stay_innermost(precision: str) -> None:
    x = torch.rand(2, 4, 7, 7).contiguous(memory_format=torch.channels_last)
    synapse = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last).requires_grad_(False)
    assert compute(synapse, (x,), precision).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("operator", [nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Flatten(), nn.Upsample(None, 2)])
def test_what_is_no_synapse_stays_as_it_is(operator: nn.Module) -> None:
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(compute(operator, (x,), "bf16"), operator(x))


class Watching(nn.Linear):
    """Remembers the switches that it met."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = set(float32_switches())
        return super().forward(x)


@pytest.mark.parametrize(("precision", "seen"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_the_switches_are_set_around_a_synapse(precision: str, seen: str) -> None:
    synapse, x = Watching(3, 2), torch.rand(2, 3)
    before = float32_switches()
    y = compute(synapse, (x,), precision)
    assert synapse.seen == {seen}
    assert float32_switches() == before
    if precision == "float32":
        assert torch.equal(y, synapse(x))


@pytest.mark.skipif(torch.cpu._is_amx_fp16_supported(), reason="this CPU has a TF32 of its own")
def test_tf32_changes_nothing_on_a_cpu() -> None:
    synapse, x = nn.Conv2d(16, 16, 3), torch.rand(4, 16, 9, 9)
    assert torch.equal(compute(synapse, (x,), "tf32"), compute(synapse, (x,), "float32"))


STATES = {
    "untouched": "",
    "legacy matmul": "b.cuda.matmul.allow_tf32 = True",
    "legacy convolutions": "b.cudnn.allow_tf32 = False",
    "legacy medium": "torch.set_float32_matmul_precision('medium')",
}
if SET_BY_NAME:
    STATES |= {
        "all": "b.fp32_precision = 'tf32'",
        "one": "b.cudnn.conv.fp32_precision = 'ieee'; b.mkldnn.fp32_precision = 'tf32'",
    }
PROGRAM = """
import os
import torch
from snn_lightning.graph.precision import float32_products
b = torch.backends
switches = ()
if hasattr(b, "fp32_precision"):
    switches = b, b.cudnn, b.mkldnn, b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.conv, b.mkldnn.matmul
def look():
    try:
        legacy = b.cuda.matmul.allow_tf32, b.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:
        legacy = None
    return legacy, [switch.fp32_precision for switch in switches]
def follow():
    seen = [look()]
    for value in ("ieee", "tf32", b.fp32_precision) if switches else ():
        b.fp32_precision = value
        seen.append(look())
    return seen
def use():
    for precision in ("float32", "tf32"):
        for fails in (False, True):
            try:
                with float32_products(precision), float32_products("float32"), float32_products("tf32"):
                    if fails:
                        raise KeyError
            except KeyError:
                pass
for name, state in %r.items():
    for used in (False, True):
        # A switch that was set once can't be unset: each has a process of its own.
        if os.fork():
            os.wait()
            continue
        exec(state)
        if used:
            use()
        print(name, follow(), sep=": ", flush=True)
        os._exit(0)
"""


def test_the_users_switches_are_left_as_they_were() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM % STATES], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(STATES)
    assert lines[::2] == lines[1::2]


def test_an_autocast_around_changes_nothing() -> None:
    synapse, x = nn.Linear(9, 7).requires_grad_(False), torch.rand(5, 9)
    for precision in PRECISIONS:
        expected = compute(synapse, (x,), precision)
        with torch.autocast("cpu", torch.bfloat16):
            assert synapse(x).dtype == torch.bfloat16
            assert torch.equal(compute(synapse, (x,), precision), expected)
            assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_shapes_are_known_on_the_meta_device(precision: str) -> None:
    y = compute(nn.Conv2d(3, 5, 3, device="meta"), (torch.empty(2, 3, 8, 8, device="meta"),), precision)
    assert (y.shape, y.dtype) == ((2, 5, 6, 6), torch.float32)


@pytest.mark.parametrize("wrong", ["fp16", "BF16", 16, None, "32-true"])
def test_an_unknown_precision_is_refused(wrong: object) -> None:
    with pytest.raises(SettingsError, match=f"precision must be one of float32, tf32, bf16, got {wrong!r}"):
        check_precision(wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("synapse", [nn.Conv2d(64, 64, 3), nn.Linear(64, 64)])
def test_the_precisions_on_a_gpu(synapse: nn.Module) -> None:
    synapse = synapse.cuda().requires_grad_(False)
    x = (
        torch.rand(16, 64, 9, 9, device="cuda")
        if synapse.weight.dim() == 4
        else torch.rand(16, 64, device="cuda")
    )
    exact = synapse.double()(x.double())
    synapse.float()
    error = {p: ((compute(synapse, (x,), p) - exact).norm() / exact.norm()).item() for p in PRECISIONS}
    # Convolutions use TF32 by PyTorch's default.
    assert error["float32"] < 1e-6
    assert 2e-5 < error["tf32"] < 1e-3
    assert 1e-3 < error["bf16"] < 1e-2
    with float32_products("float32"):
        assert torch.equal(compute(synapse, (x,), "float32"), synapse(x))
