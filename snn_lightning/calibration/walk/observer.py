"""Who is told of a calibration's progress, and how it is shown on a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from snn_lightning.calibration.walk.eta import StageCosts, TimeLeft
from snn_lightning.calibration.walk.records import StageRecord


class Observer:
    """Is told what a calibration does; this one keeps quiet. Called on every process."""

    def begin(self, costs: StageCosts) -> None:
        """A calibration begins, with the modelled costs of its stages."""

    def stages_known(self, records: Sequence[StageRecord]) -> None:
        """These stages have been finished earlier."""

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


class _TimeLeftColumn(ProgressColumn):
    """The time left, from a function."""

    max_refresh = 0.5

    def __init__(self, seconds: Callable[[], float | None]) -> None:
        super().__init__()
        self.seconds = seconds

    def render(self, task: Task) -> Text:
        if not task.fields["timed"]:
            return Text("")
        seconds = self.seconds()
        shown = "-:--:--" if seconds is None else str(timedelta(seconds=math.ceil(seconds)))
        return Text(f"{shown} left", style="progress.remaining")


class RichObserver(Observer):
    """Shows a bar on a terminal, and one line a stage everywhere.

    The bar moves, and the time left is estimated, by the modelled cost of each stage.

    Args:
        console: where to print; rich's own by default.
        clock: gives seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console or Console(), clock
        self.begin(StageCosts([], []))
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}", style="progress.download"),
            TimeElapsedColumn(),
            _TimeLeftColumn(lambda: self.left.seconds),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.stages = self.bar.add_task("Calibrating", total=None, count="", timed=True)
        self.loop = self.bar.add_task("SGD", total=None, visible=False, count="", timed=False)
        self.resumed = False

    def __enter__(self) -> RichObserver:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.bar.disable:  # rich 13 would print an empty line
            self.bar.stop()

    def begin(self, costs: StageCosts) -> None:
        """Know what each stage costs."""
        self.left = TimeLeft(costs, self.clock)

    def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
        """Move the bar; say once where a resumed calibration goes on."""
        if len(self.left.costs.stages) != total:
            self.begin(StageCosts([1.0] * total, [0.0] * total))
        if self.resumed and not resumed:
            self.console.print(
                f"Going on after stage {index}/{total}, where an earlier run was stopped", highlight=False
            )
            self.left.restart(index)
        self.resumed = resumed
        self._move(index)
        self.bar.update(self.stages, description=f"Calibrating {name}")

    def iteration(self, index: int, iteration: int, iterations: int, loss: float) -> None:
        """Move the inner bar, and the other by its share."""
        self._move(index, iteration / iterations)
        self.bar.update(
            self.loop,
            completed=iteration,
            total=iterations,
            count=f"{iteration}/{iterations}",
            description=f"SGD, loss {loss:.3g}",
            visible=iteration < iterations,
        )

    def stage_finished(self, record: StageRecord, total: int) -> None:
        """Print the stage's line."""
        line = _stage_line(record, total)
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._move(record.index + 1)

    def _move(self, index: int, sgd: float = 0.0) -> None:
        self.left.reached(index, sgd)
        count = f"{index}/{len(self.left.costs.stages)}"
        self.bar.update(self.stages, completed=self.left.done, total=self.left.total, count=count)


def _stage_line(record: StageRecord, total: int) -> str:
    parts = [f"[{record.index + 1:>3}/{total}] {record.path or record.name:<24}"]
    if record.threshold is not None:
        parts.append(f"threshold {record.threshold[0]:.3g}-{record.threshold[1]:.3g}")
    for step, numbers in record.steps.items():
        if step != "threshold":
            word = " channelwise" if numbers.get("channelwise") else ""
            parts.append(f"{step}{word} {numbers['before']:.3f}->{numbers['after']:.3f}")
    parts.append(f"error {record.error:.3f}")
    if record.firing_rate is not None:
        parts.append(f"rate {record.firing_rate:.3f}")
    return "  ".join([*parts, f"{record.seconds:.1f} s"])
