"""What is looked for: a bound on the loss, and what is best within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.analysis.trials import Trial
from snn_lightning.calibration.pipelines import Pipeline
from snn_lightning.errors import SettingsError
from snn_lightning.settings import check_choice, is_number

OBJECTIVES = ("timesteps", "energy", "seconds")
MODES = ("max", "min")

DECIMALS = 6
"""Of a drop: a difference of two floats must not miss a budget that it meets."""


@dataclass(frozen=True)
class Candidate:
    """A pipeline to try, and what it is called.

    Args:
        pipeline: how the ANN is converted and calibrated.
        name: of the pipeline.
        neuron: the name of its kind of neurons.
    """

    pipeline: Pipeline
    name: str
    neuron: str

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.name}, {self.neuron}, T={self.pipeline.timesteps}"

    @property
    def family(self) -> tuple[Any, ...]:
        """What it has in common with the candidates that differ in T alone."""
        own = {f.name: getattr(self.pipeline, f.name) for f in fields(self.pipeline)}
        return type(self.pipeline), own | {"timesteps": None}


@dataclass(frozen=True)
class Budget:
    """A bound on what an SNN may lose, and what is best within it.

    Args:
        max_drop: percentage points that it may lose against the ANN.
        objective: "timesteps" for the fewest time steps of an inference, "energy" for the least energy,
            "seconds" for the cheapest calibration by the cost model.
        mode: "max" where a higher score is better, "min" where a lower one is.
        energy: prices by which the energy is measured.

    Example:
        >>> Budget(0.5).drop(0.9, 0.895), Budget(0.5, mode="min").drop(0.1, 0.12)
        (0.5, 2.0)
    """

    max_drop: float
    objective: str = "timesteps"
    mode: str = "max"
    energy: EnergyModel = field(default_factory=EnergyModel)

    def __post_init__(self) -> None:
        if not (is_number(self.max_drop) and self.max_drop >= 0):
            raise SettingsError(
                f"max_drop must be a number of percentage points of at least 0, got {self.max_drop!r}"
            )
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("mode", self.mode, MODES)

    def drop(self, ann: float, snn: float) -> float:
        """Return what an SNN loses, in points, from the two scores."""
        lost = ann - snn if self.mode == "max" else snn - ann
        return round(100 * lost, DECIMALS)

    def order(
        self, candidates: Sequence[Candidate], steps: Sequence[int], costs: Sequence[float]
    ) -> list[Candidate]:
        """Return the candidates in the order in which they are tried.

        Args:
            candidates: they.
            steps: how many time steps an inference of each takes.
            costs: what the calibration of each costs, in any unit.
        """
        first, second = (costs, steps) if self.objective == "seconds" else (steps, costs)
        ranks = list(zip(first, second, strict=True))
        return [candidates[i] for i in sorted(range(len(candidates)), key=ranks.__getitem__)]

    def is_settled(self, candidate: Candidate, tried: Sequence[tuple[Candidate, Trial]]) -> bool:
        """Whether a candidate can't be better than the best of those tried before it.

        Of one pipeline and neuron the energy is taken to grow with T: more time steps are more spikes.
        """
        met = [trial for _, trial in tried if trial.met]
        if not met or self.objective != "energy":
            return bool(met)
        least = min(map(_energy, met))
        return any(
            other.family == candidate.family and (trial.met or _energy(trial) >= least)
            for other, trial in tried
        )

    def best(self, trials: Sequence[Trial]) -> int:
        """Return the position of the best trial: within the budget by the objective, else by the drop."""
        met = [i for i, trial in enumerate(trials) if trial.met]
        if not met:
            return min(range(len(trials)), key=lambda i: trials[i].drop)
        # Otherwise the search ends with the first.
        return min(met, key=lambda i: _energy(trials[i])) if self.objective == "energy" else met[0]


def _energy(trial: Trial) -> float:
    return float("inf") if trial.energy_ratio is None else trial.energy_ratio
