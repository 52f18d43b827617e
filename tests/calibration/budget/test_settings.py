"""The order of trials, when nothing better can come, and which one is the best."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_lightning import ACP, LCP, Baseline, Signed
from snn_lightning.analysis.trials import Trial
from snn_lightning.calibration.budget.settings import Budget, Candidate
from snn_lightning.errors import SettingsError


def candidate(pipeline: Baseline | LCP | ACP) -> Candidate:
    return Candidate(pipeline, type(pipeline).__name__, type(pipeline.neuron).__name__)


def trial(drop: float, energy: float | None = 0.5, met: bool = False) -> Trial:
    return Trial("lcp", "if", 4, 4, 0.9, drop, met, energy, 0.01, 1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"max_drop": -0.1}, "max_drop must be a number of percentage points of at least 0, got -0.1"),
        ({"max_drop": "1"}, "max_drop must be a number .* got '1'"),
        ({"max_drop": float("nan")}, "max_drop must be a number"),
        ({"max_drop": True}, "max_drop must be a number"),
        ({"objective": "latency"}, "objective must be one of timesteps, energy, seconds, got 'latency'"),
        ({"mode": "least"}, "mode must be 'max' or 'min'"),
    ],
)
def test_wrong_settings_are_named(values: dict, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        Budget(**{"max_drop": 1.0, **values})


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_drop_of_exactly_the_budget_is_within_it(ann: int, snn: int) -> None:
    """Whatever the rounding of the difference."""
    drop = Budget(0.0).drop(ann / 1000, snn / 1000)
    assert drop == (ann - snn) / 10
    assert Budget(0.0, mode="min").drop(ann / 1000, snn / 1000) == -drop


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("timesteps", [1, 0, 3, 2]), ("energy", [1, 0, 3, 2]), ("seconds", [1, 3, 0, 2])],
)
def test_the_order(objective: str, expected: list[int]) -> None:
    found = [candidate(p) for p in (ACP(2), LCP(2), ACP(4), LCP(4))]
    steps, costs = [2, 2, 4, 4], [6.0, 2.0, 12.0, 4.0]
    assert Budget(1.0, objective).order(found, steps, costs) == [found[i] for i in expected]
    # An inference of the first takes longest, as where its neurons wait for whole windows.
    assert Budget(1.0, "timesteps").order(found, [8, 2, 4, 4], costs)[-1] is found[0]


def test_the_first_within_the_budget_settles_time_steps_and_seconds() -> None:
    next_one = candidate(ACP(4))
    for objective in ("timesteps", "seconds"):
        budget = Budget(1.0, objective)
        assert not budget.is_settled(next_one, [])
        assert not budget.is_settled(next_one, [(candidate(ACP(2)), trial(2.0))])
        assert budget.is_settled(next_one, [(candidate(LCP(2)), trial(0.5, met=True))])


def test_a_family_is_settled_by_its_own_energy_alone() -> None:
    budget = Budget(1.0, "energy")
    met = (candidate(LCP(2)), trial(0.5, energy=0.2, met=True))
    assert budget.is_settled(candidate(LCP(4)), [met])
    # Another pipeline, kind of neurons or setting may take less.
    for other in (ACP(4), LCP(4, neuron=Signed()), LCP(4, rounding="bias")):
        assert not budget.is_settled(candidate(other), [met])
    dear, cheap = ((candidate(ACP(2)), trial(3.0, energy=energy)) for energy in (0.2, 0.1))
    assert budget.is_settled(candidate(ACP(4)), [met, dear])
    assert not budget.is_settled(candidate(ACP(4)), [met, cheap])
    assert not budget.is_settled(candidate(ACP(4)), [dear])


def test_the_best() -> None:
    trials = [trial(3.0), trial(2.0), trial(2.0)]
    for objective in ("timesteps", "energy", "seconds"):
        assert Budget(1.0, objective).best(trials) == 1
    trials += [trial(0.9, 0.4, met=True), trial(0.1, 0.3, met=True), trial(0.1, None, met=True)]
    assert Budget(1.0).best(trials) == 3
    assert Budget(1.0, "energy").best(trials) == 4
    assert replace(trials[0], energy_ratio=None).line == "lcp, if, T=4: loses 3.00 points, 1.0 s"
