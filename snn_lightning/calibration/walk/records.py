"""The record of a calibration, stage by stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class StageRecord:
    """The steps that were run on one stage and their errors, as plain numbers and strings.

    Args:
        index: number of the stage, from 0.
        name: of its unit.
        kind: "neuron", "gate" or "readout".
        path: the module in the user's network.
        error: relative squared error ||x - rate||^2 / ||x||^2 of the finished stage (PC 3.4).
        firing_rate: spikes emitted a neuron and time step, negative ones too; above 1 only for bursts. None
            where nothing fires.
        threshold: smallest and largest threshold, activation units; None where there is none.
        steps: for each step its relative error `before` and `after`, and more numbers.
        seconds: wall time.
        seconds_by_step: what of it each step takes, and to `observe` and to `fire` the stage. What a step
            computes and later ones read again is the time of the first.
        images: of the calibration set, over all processes.
    """

    index: int
    name: str
    kind: str
    path: str
    error: float = float("nan")
    firing_rate: float | None = None
    threshold: tuple[float, float] | None = None
    steps: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_by_step: dict[str, float] = field(default_factory=dict)
    images: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a plain dictionary."""
        return asdict(self)
