"""Networks with analog operators: windows of time, means in, constants out."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import (
    ACP,
    LCP,
    Best,
    Distillation,
    LeastSquares,
    SpikingModel,
    Weights,
    calibrate,
    convert,
    rescale_to_unit_spikes,
)
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.analysis.mismatch import measure_mismatch
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.calibration.walk.resume import fingerprint
from snn_lightning.graph import normalise, prepare
from snn_lightning.spiking.units import Unit
from tests.toys import AS_GIVEN

X = torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Excited(nn.Module):
    """A squeeze-excitation in front of a shortcut, and a sigmoid at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.squeeze, self.excite, self.head = nn.Linear(4, 2), nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        gain = torch.sigmoid(self.excite(F.relu(self.squeeze(h.mean((2, 3))))))
        y = F.relu(self.second(h * gain.unflatten(1, (4, 1, 1))) + h)
        return torch.sigmoid(self.head(y.mean((2, 3))))


class Twice(nn.Module):
    """Two analog regions, one behind the other, and an output in front of each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = F.relu(self.a(x.mean(1)))
        g = F.relu(self.b(torch.tanh(h)))
        return {"first": self.b(h), "last": self.c(F.relu(self.b(torch.tanh(g)) + h)), "site": g}


class Pooled(nn.Module):
    """Group norm between convolutions, and a max pool of what is analog and of what spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.pool = nn.GroupNorm(2, 4), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(F.relu(self.a(x)))
        return F.relu(self.pool(self.norm(self.b(h)))).mean((2, 3))


CASES: dict[str, tuple[type[nn.Module], tuple[str, ...], int]] = {
    "excited": (Excited, ("sigmoid", "mul"), 2),
    "twice": (Twice, ("tanh",), 3),
    "pooled": (Pooled, ("GroupNorm",), 2),
}


def ann_of(name: str) -> nn.Module:
    torch.manual_seed(1)
    return CASES[name][0]().double().eval()


def spiking(name: str, timesteps: int) -> SpikingModel:
    return convert(ann_of(name), X, timesteps, analog=CASES[name][1])


def leaves(tree: Tensor | dict[str, Tensor]) -> list[Tensor]:
    return list(tree.values()) if isinstance(tree, dict) else [tree]


@pytest.mark.parametrize("name", CASES)
def test_many_time_steps_give_the_ann(name: str) -> None:
    snn = spiking(name, 1024)
    assert snn.windows == CASES[name][2]
    assert f"left analog, {snn.windows} windows of T time steps; T=1024" in str(snn)
    with torch.no_grad():
        for found, expected in zip(leaves(snn(X)), leaves(ann_of(name)(X)), strict=True):
            assert (found - expected).norm() < 0.01 * expected.norm()


def fire(unit: nn.Module, currents: list[Tensor]) -> Tensor:
    """Return the mean of a neuron's output over single steps."""
    assert isinstance(unit, Unit)
    state, total = None, torch.zeros(())
    for current in currents:
        output, state = unit(current.clone()[None], state, 1)
        total = total + output[0]
    return total / len(currents)


def test_means_in_and_constants_out_by_hand() -> None:
    """The rule written out: a window of spikes, the analog operators on their means, the next window."""
    steps, ann, snn = 5, ann_of("excited"), spiking("excited", 5)
    first, squeezed, last = snn.neurons.values()
    assert isinstance(ann, Excited)
    with torch.no_grad():
        state, state2, spikes, squeezes = None, None, [], []
        for _ in range(steps):
            out, state = first(ann.first(X)[None], state, 1)
            spikes.append(out[0])
            out, state2 = squeezed(ann.squeeze(out[0].mean((2, 3)))[None], state2, 1)
            squeezes.append(out[0])
        h, s = sum(spikes) / steps, sum(squeezes) / steps
        current = ann.second(h * torch.sigmoid(ann.excite(s))[..., None, None]) + h
        y = fire(last, [current] * steps)
        assert torch.allclose(torch.sigmoid(ann.head(y.mean((2, 3)))), snn(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_all_ways_to_simulate_agree(name: str) -> None:
    snn = spiking(name, 6)
    with torch.no_grad():
        whole, over_time = snn(X), snn.running_mean(X)
        state, total = snn.initial_state(X), None
        for t in range(6):
            out, state = snn.step(state)
            total = leaves(out) if total is None else [a + b for a, b in zip(total, leaves(out), strict=True)]
            if snn.network.schedule.tail:
                assert torch.allclose(leaves(out)[0], leaves(over_time)[0][t], atol=1e-12)
        snn.rows = 7
        parts = snn(X)
        unit = rescale_to_unit_spikes(snn)(X)
    for a, b, c, d in zip(leaves(whole), leaves(over_time), leaves(parts), leaves(unit), strict=True):
        assert torch.allclose(a, b[-1], atol=1e-12)
        assert torch.allclose(a, c, atol=1e-12)
        assert torch.allclose(a, d, atol=1e-9)
    if not snn.network.schedule.tail and total is not None:
        assert all(torch.allclose(a / 6, b, atol=1e-12) for a, b in zip(total, leaves(whole), strict=True))
    assert all(train.shape[0] == 6 for train in snn.spikes(X).values())


PIPELINES: dict[str, Pipeline] = {
    "lcp": LCP(4),
    "acp": ACP(4, **AS_GIVEN, weights=Weights(20, step_size=0.05, batch_size=8)),
    "least squares": ACP(4, **AS_GIVEN, weights=LeastSquares(), cache_budget_gb=1e-5),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_walk_fires_every_stage_on_what_a_simulation_delivers(name: str, pipeline: str) -> None:
    ann, x = ann_of(name).float(), X.float()
    settings = replace(PIPELINES[pipeline], analog=CASES[name][1])
    snn = calibrate(ann, [x[:5], x[5:]], settings, progress=False)
    assert (snn.windows, snn.status) == (CASES[name][2], "calibrated")
    report = measure_mismatch(ann, snn, x)
    assert [stage.name for stage in report.stages] == [record["name"] for record in snn.records]
    for stage, record in zip(report.stages, snn.records, strict=True):
        assert record["error"] == pytest.approx(stage.total, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["excited", "pooled"])
def test_distillation_goes_through_the_windows(name: str) -> None:
    ann, x = ann_of(name).float(), X.float()
    pipeline = Best(
        4, **AS_GIVEN, distillation=Distillation(150, batch_size=12, step_size=0.003), analog=CASES[name][1]
    )
    steps = calibrate(ann, [x], pipeline, progress=False).records[-1]["steps"]
    assert steps["distillation"]["after"] < steps["distillation"]["before"]


def test_analog_multiplications_are_counted_once() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(4, 2)
            self.gate = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.gate(F.relu(self.a(x.mean((1, 2)))))))

    torch.manual_seed(0)
    snn = convert(Mixed().eval(), X.float(), 4, analog=("gate",))
    first, second, last = measure_energy(snn, X.float()).stages
    assert second.analog == second.ann == second.multiplications == 5 * 3 + 3 * 4
    assert (second.accumulates, first.analog, last.analog) == (0, 0, 0)
    assert last.accumulates > 0


class Tailed(nn.Module):
    """A norm in between, and a norm at the end."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.a, self.b, self.own = nn.Linear(3, 5), nn.Linear(5, 4), Scaled(scale)
        self.norm, self.last = nn.LayerNorm(5), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.b(F.relu(self.own(self.norm(F.relu(self.a(x.mean((2, 3)))))))))


class Scaled(nn.Module):
    """Has a number that no state says."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


TAILED = ("norm", "own")


def test_distillation_leaves_analog_operators_as_they_are() -> None:
    torch.manual_seed(0)
    ann, x = Tailed().eval(), torch.randn(24, 3, 2, 2)
    pipeline = Best(2, **AS_GIVEN, weights=None, distillation=Distillation(100, batch_size=12), analog=TAILED)
    snn = calibrate(ann, [x], pipeline, progress=False)
    assert snn.records[-1]["steps"]["distillation"]["kept"] == 1
    for name, operator in snn.network.operators.items():
        changed = [not torch.equal(p, q) for p, q in zip(*both(ann, snn, name), strict=True)]
        assert any(changed) == isinstance(operator, nn.Linear), name


def both(ann: nn.Module, snn: SpikingModel, name: str) -> tuple[list[Tensor], list[Tensor]]:
    plain = convert(ann, X.float(), 4, analog=TAILED).network.operators[name]
    return list(plain.parameters()), list(snn.network.operators[name].parameters())


@pytest.mark.parametrize("pipeline", ["acp", "best"])
def test_weights_that_no_gradient_reaches_stay(pipeline: str) -> None:
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            chosen = self.b(F.relu(self.a(x.mean((2, 3))))).argmax(1)
            return F.relu(F.embedding(chosen, self.b.weight))

    settings: dict[str, Pipeline] = {
        "acp": ACP(4, **AS_GIVEN, weights=Weights(3, batch_size=8), analog="auto"),
        "best": Best(4, **AS_GIVEN, distillation=Distillation(3, batch_size=8), analog="auto"),
    }
    torch.manual_seed(0)
    ann = Chosen().eval()
    snn = calibrate(ann, [X.float()], settings[pipeline], progress=False)
    _, beyond = (m for m in snn.network.operators.values() if isinstance(m, nn.Linear))
    assert snn.status == "calibrated"
    if pipeline == "acp":  # the other solves for it in closed form
        assert torch.equal(beyond.weight, ann.b.weight)


def test_an_output_of_an_early_window_is_counted() -> None:
    report = measure_energy(spiking("twice", 4), X)
    assert all(stage.spikes > 0 for stage in report.stages if stage.kind == "neuron")


def test_compiled_before_it_ever_ran() -> None:
    snn = spiking("excited", 3)
    compiled = torch.compile(snn, fullgraph=True, backend="eager")(X)
    assert torch.allclose(compiled, snn(X), atol=1e-12)


def test_what_a_module_of_ones_own_computes_tells_calibrations_apart() -> None:
    x, keys = X.float(), set()
    for scale in (1.0, 9.0):
        torch.manual_seed(0)
        network = prepare(normalise(Tailed(scale).eval(), x, analog=TAILED), x)
        keys.add(fingerprint(network, LCP(4, analog=TAILED), [x]))
    assert len(keys) == 2
