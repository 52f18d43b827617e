"""What a calibration tells about its progress, and how that is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@dataclass
class StageRecord:
    """What happened to one stage, as plain numbers and strings.

    Args:
        index: number of the stage, from 0.
        name: of its unit.
        kind: "neuron", "gate" or "readout".
        path: the module in the user's network.
        error: relative squared error ||x - rate||^2 / ||x||^2 of the finished stage (PC 3.4).
        firing_rate: spikes a neuron and time step, in [0, 1]; None where nothing fires.
        threshold: smallest and largest threshold, activation units; None where there is none.
        steps: for each step its relative error `before` and `after`, and more numbers.
        seconds: wall time.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a plain dictionary."""
        return asdict(self)


class Observer:
    """Is told what a calibration does; this one keeps quiet. Called on every process."""

    def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
        """A stage begins; `resumed` if its parameters come from a partial checkpoint."""

    def iteration(self, index: int, iteration: int, iterations: int, loss: float) -> None:
        """The weights of stage `index` have had `iteration` of `iterations` SGD steps."""

    def stage_finished(self, record: StageRecord, total: int) -> None:
        """A stage is done."""

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class RichObserver(Observer):
    """Shows a bar on a terminal, and one line a stage everywhere.

    Args:
        console: where to print; rich's own by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.stages = self.bar.add_task("Calibrating", total=None)
        self.loop = self.bar.add_task("SGD", total=None, visible=False)
        self.resumed = False

    def __enter__(self) -> RichObserver:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
        """Move the bar; say once where a resumed calibration goes on."""
        if self.resumed and not resumed:
            self.console.print(
                f"Going on after stage {index}/{total}, where an earlier run was stopped", highlight=False
            )
        self.resumed = resumed
        self.bar.update(self.stages, completed=index, total=total, description=f"Calibrating {name}")

    def iteration(self, index: int, iteration: int, iterations: int, loss: float) -> None:
        """Move the inner bar."""
        visible = iteration < iterations
        self.bar.update(
            self.loop,
            completed=iteration,
            total=iterations,
            description=f"SGD, loss {loss:.3g}",
            visible=visible,
        )

    def stage_finished(self, record: StageRecord, total: int) -> None:
        """Print the stage's line."""
        parts = [f"[{record.index + 1:>3}/{total}] {record.path or record.name:<24}"]
        if record.threshold is not None:
            parts.append(f"threshold {record.threshold[0]:.3g}-{record.threshold[1]:.3g}")
        for step, numbers in record.steps.items():
            if step != "threshold":
                parts.append(f"{step} {numbers['before']:.3f}->{numbers['after']:.3f}")
        parts.append(f"error {record.error:.3f}")
        if record.firing_rate is not None:
            parts.append(f"rate {record.firing_rate:.3f}")
        self.console.print(
            "  ".join(parts) + f"  {record.seconds:.1f} s", highlight=False, markup=False, soft_wrap=True
        )
        self.bar.update(self.stages, completed=record.index + 1, total=total)
