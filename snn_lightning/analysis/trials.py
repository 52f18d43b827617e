"""What was tried to find an SNN within a budget: one value a trial, and their table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from rich.table import Table

from snn_lightning.analysis.results import percent


@dataclass(frozen=True)
class Trial:
    """An SNN that was calibrated and scored, as plain values.

    Args:
        pipeline: its name.
        neuron: the name of its kind of neurons.
        timesteps: T.
        latency_steps: time steps of an inference: T, and more where neurons wait for a window of T.
        score: on the validation images; a fraction, or whatever a metric of the user's own gives.
        drop: what it loses against the ANN, in percentage points; negative where it is better.
        met: whether that is within the budget.
        energy_ratio: its energy over the ANN's; None where the ANN takes none.
        seconds_an_image: of the simulation on this machine.
        seconds: of the calibration.
        cpu_seconds: the same, of all threads of this process together.

    Example:
        >>> Trial("lcp", "if", 4, 4, 0.9, 1.5, False, 0.2, 0.01, 3.0, 3.0).title
        'lcp, if, T=4'
    """

    pipeline: str
    neuron: str
    timesteps: int
    latency_steps: int
    score: float
    drop: float
    met: bool
    energy_ratio: float | None
    seconds_an_image: float
    seconds: float
    cpu_seconds: float

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.pipeline}, {self.neuron}, T={self.timesteps}"

    @property
    def line(self) -> str:
        """What it has come to, in a line."""
        energy = "" if self.energy_ratio is None else f", energy {percent(self.energy_ratio)} of the ANN's"
        steps = "" if self.latency_steps == self.timesteps else f" in {self.latency_steps} time steps"
        return f"{self.title}: loses {self.drop:.2f} points{steps}{energy}, {self.seconds:.1f} s"


def trials_table(trials: Sequence[Trial]) -> Table:
    """Return the trials as a table, in the order in which they were made.

    Example:
        >>> table = trials_table([Trial("lcp", "if", 4, 4, 0.9, 1.5, False, 0.2, 0.01, 3.0, 3.0)])
        >>> [list(column.cells)[0] for column in table.columns][:6]
        ['lcp', 'if', '4', '4', '0.9000', '1.50']
    """
    caption = "steps: of an inference; loses: points; s: of the calibration"
    table = Table(caption=caption, caption_justify="left")
    for heading in ("pipeline", "neuron"):
        table.add_column(heading)
    for heading in ("T", "steps", "score", "loses", "energy", "s"):
        table.add_column(heading, justify="right")
    table.add_column("met")
    for one in trials:
        table.add_row(
            one.pipeline,
            one.neuron,
            str(one.timesteps),
            str(one.latency_steps),
            f"{one.score:.4f}",
            f"{one.drop:.2f}",
            "–" if one.energy_ratio is None else percent(one.energy_ratio),
            f"{one.seconds:.1f}",
            "yes" if one.met else "no",
        )
    return table


def trials_csv(trials: Sequence[Trial]) -> str:
    """Return the trials as CSV, a row each.

    Example:
        >>> trials_csv([Trial("lcp", "if", 4, 4, 0.9, 1.5, False, 0.2, 0.01, 3.0, 2.5)]).splitlines()[1]
        'lcp,if,4,4,0.9,1.5,False,0.2,0.01,3.0,2.5'
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(Trial)])
    writer.writeheader()
    writer.writerows(map(asdict, trials))
    return buffer.getvalue()
