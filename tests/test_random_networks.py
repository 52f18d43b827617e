"""Properties that every network has, on networks made at random."""

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import convert, rescale_to_unit_spikes
from snn_lightning.graph import normalise

from .toys import randomise_batch_norms

CHANNELS = 4
BLOCKS = ("plain", "residual", "dense", "bottleneck", "shared", "downsampled", "shuffled", "excited")


class Block(nn.Module):
    """One block of a kind, with batch norm behind the synapse or in front of the activation, or without."""

    def __init__(self, kind: str, norm: str, cap: bool) -> None:
        super().__init__()
        self.kind, self.norm, self.cap = kind, norm, cap
        hidden = 2 * CHANNELS if kind in ("bottleneck", "dense") else CHANNELS
        self.first = nn.Conv2d(
            CHANNELS, hidden, 1 if kind == "bottleneck" else 3, padding=int(kind != "bottleneck")
        )
        groups = hidden if kind == "bottleneck" else 1
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups, bias=norm != "behind")
        merged = hidden + CHANNELS if kind == "dense" else hidden
        self.last = nn.Conv2d(merged, CHANNELS, 1)
        self.gain = nn.Linear(hidden, hidden)
        self.short = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
        before = (CHANNELS, hidden) if norm == "front" else (hidden, hidden)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if norm != "none" else nn.Identity() for c in before)
        self.relu = nn.ReLU6() if cap else nn.ReLU()

    def synapse(self, index: int, x: Tensor) -> Tensor:
        conv = self.first if index == 0 else self.second
        if self.norm == "front":
            return conv(F.relu(self.norms[index](x)))
        return self.relu(self.norms[index](conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.synapse(0, x)
        if self.kind == "shared":
            y = self.synapse(0, y)
        if self.kind == "shuffled":
            n, c, h, w = y.shape
            y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            left, right = y.chunk(2, 1)
            y = torch.cat([right, left], 1)
        if self.kind == "excited":
            y = y * torch.sigmoid(self.gain(y.mean((2, 3)))).unflatten(1, (-1, 1, 1))
        y = self.synapse(1, y)
        if self.kind == "dense":
            return self.last(torch.cat([x, y], 1))
        y = self.last(y)
        if self.kind == "residual":
            y += x
        elif self.kind == "downsampled":
            y = y + self.short(x)
        return self.relu(y) if self.kind in ("residual", "downsampled") else y


class Random(nn.Module):
    """A stem, some blocks, pooling in between, and a readout."""

    def __init__(self, blocks: list[tuple[str, str, bool]], pool: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.blocks = nn.ModuleList(Block(*block) for block in blocks)
        self.pool = {"average": nn.AvgPool2d(2), "max": nn.MaxPool2d(2), "none": nn.Identity()}[pool]
        self.head = nn.Linear(CHANNELS, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == 0:
                x = self.pool(x)
        return self.head(F.relu(x).mean((2, 3)))


def activation_calls(ann: Random) -> int:
    """Return how many activations the code above calls."""
    more = {"shared": 1, "residual": 1, "downsampled": 1}
    return 1 + sum(2 + more.get(block.kind, 0) for block in ann.blocks)


def networks(*pools: str) -> st.SearchStrategy[Random]:
    """Return networks with one of `pools` in between."""
    block = st.tuples(st.sampled_from(BLOCKS), st.sampled_from(["none", "behind", "front"]), st.booleans())
    return st.builds(Random, st.lists(block, min_size=1, max_size=3), st.sampled_from(pools))


def randomised(ann: Random, seed: int) -> tuple[Random, Tensor]:
    """Set all parameters and statistics by `seed`; return the network, and four images for it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) / max(parameter[0].numel(), 2) ** 0.5
            )
    return randomise_batch_norms(ann, seed).eval(), torch.randn(4, 3, 6, 6, generator=generator)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(networks("average", "max", "none"), st.integers(0, 2**16))
def test_random_networks(ann: Random, seed: int) -> None:
    ann, x = randomised(ann, seed)
    ann, x = ann.double(), x.double()

    network = normalise(ann, x, analog=("auto",))
    with torch.no_grad():
        expected = ann(x)
        assert (network(x) - expected).norm() <= 1e-4 * expected.norm()

    snn = convert(ann, x, 4, analog="auto")
    assert snn.windows == 1 + sum(block.kind == "excited" for block in ann.blocks)
    assert len(snn.neurons) == len(network.sites) == activation_calls(ann)

    whole, batched = snn(x), snn.spikes(x)
    state, total = snn.initial_state(x), torch.zeros(())
    trains: dict[str, list[Tensor]] = {name: [] for name in batched}
    for _ in range(4):
        readout, state = snn.step(state)
        total = total + readout
    assert torch.allclose(total / 4, whole, rtol=1e-9, atol=1e-12)
    state = snn.initial_state(x)
    for _ in range(4):
        record: dict[str, Tensor] = {}
        snn._advance(state, 1, record)
        for name, train in record.items():
            trains[name].append(train)
    last = {stage.name for stage in snn.network.stages if stage.window == snn.windows - 1}
    for name in last & trains.keys():
        assert torch.equal(torch.cat(trains[name]), batched[name])

    snn.rows = 1
    assert torch.allclose(snn(x), whole, rtol=1e-9, atol=1e-12)

    unit = rescale_to_unit_spikes(snn)
    assert torch.allclose(unit(x), whole, rtol=1e-9, atol=1e-12)


def errors_over_time(ann: Random, seed: int) -> tuple[Tensor, int]:
    """Return the relative error of the output after each of 1024 time steps, in float64, and the windows."""
    ann, x = randomised(ann, seed)
    ann, x = ann.double(), x.double()
    with torch.no_grad():
        expected = ann(x)
        snn = convert(ann, x, 1024, analog="auto")
        means = snn.running_mean(x)
    return (means - expected).flatten(1).norm(dim=1) / expected.norm(), snn.windows


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(networks("average", "max", "none"), st.integers(0, 2**16))
def test_error_falls_as_one_over_t(ann: Random, seed: int) -> None:
    """The error of so small a network swings from step to step; T times the error stays within a bound.

    Of several windows only the last one goes on: what the others have left of the error stays.
    """
    errors, windows = errors_over_time(ann, seed)
    assume(errors.max() > 1e-9)  # or else no neuron ever fires
    scaled = errors * torch.arange(1, 1025)
    assert errors[1023] < 0.02
    assert scaled[63:].max() < 20
    if windows == 1:
        assert scaled[256:].max() < 3 * scaled[:256].max()
