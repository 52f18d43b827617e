"""What a calibration tells about its progress, and how that is shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text
from torch import Tensor

from snn_lightning.analysis.cost.operations import estimate_cost
from snn_lightning.analysis.cost.timing import NOMINAL, estimate_seconds
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.graph.network import StageNetwork


@dataclass
class StageRecord:
    """What happened to one stage, as plain numbers and strings.

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


@dataclass(frozen=True)
class StageCosts:
    """What the stages cost in relation to each other, in any unit.

    Args:
        whole: of each stage, and of the steps on the whole network after them.
        loop: of their SGD, a part of `whole`.
    """

    whole: Sequence[float]
    loop: Sequence[float]

    @classmethod
    def modelled(cls, network: StageNetwork, sample: Tensor, work: Work) -> StageCosts:
        """Return what the cost model says.

        Args:
            network: the prepared ANN.
            sample: inputs `[N, ...]` on its device.
            work: what is to be done.
        """
        cost = estimate_cost(network, sample.shape[1:], work)
        seconds = estimate_seconds(cost, NOMINAL.get(sample.device.type, NOMINAL["cuda"]).prices(cost))
        last = [seconds.distillation] if work.distilled else []
        return cls([*seconds.stages, *last], [*seconds.weights, *last])


class TimeLeft:
    """Foretells how long the stages that are left will take, from the modelled costs and the time so far.

    Args:
        costs: of the stages.
        clock: gives seconds.
    """

    def __init__(self, costs: StageCosts, clock: Callable[[], float] = time.monotonic) -> None:
        self.costs, self.clock = costs, clock
        self.total = sum(costs.whole)
        self.begun = self.news = clock()
        self.first = self.done = self.behind = 0.0

    def restart(self, index: int) -> None:
        """Take stage `index` as the first whose time counts: those before it were calibrated earlier."""
        self.reached(index)
        self.first, self.begun = self.done, self.news

    def reached(self, index: int, loop: float = 0.0) -> None:
        """Note that all stages before `index` are done, and the fraction `loop` of its SGD."""
        before, inside = sum(self.costs.whole[:index]), self.costs.loop[index : index + 1]
        self.done = before + loop * sum(inside)
        self.behind = self.total - before - sum(self.costs.whole[index : index + 1])
        self.news = self.clock()

    @property
    def seconds(self) -> float | None:
        """Seconds left; None before anything is known.

        `(time so far) * (cost left) / (cost so far)` when something was last done, less what has passed
        since, but no less than what the stages behind the present one will take.
        """
        if self.done <= self.first:
            return None
        rate = (self.news - self.begun) / (self.done - self.first)
        return max(rate * self.behind, rate * (self.total - self.done) - (self.clock() - self.news))


class Observer:
    """Is told what a calibration does; this one keeps quiet. Called on every process."""

    def begin(self, costs: StageCosts) -> None:
        """A calibration begins, whose stages are foreseen to cost so much."""

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


class _Left(ProgressColumn):
    """The time left, from a function."""

    max_refresh = 0.5

    def __init__(self, seconds: Callable[[], float | None]) -> None:
        super().__init__()
        self.seconds = seconds

    def render(self, task: Task) -> Text:
        if not task.fields["timed"]:
            return Text("")
        left = self.seconds()
        shown = "-:--:--" if left is None else str(timedelta(seconds=math.ceil(left)))
        return Text(f"{shown} left", style="progress.remaining")


class RichObserver(Observer):
    """Shows a bar on a terminal, and one line a stage everywhere.

    The bar moves, and the time left is foretold, by the modelled cost of each stage.

    Args:
        console: where to print; rich's own by default.
        clock: gives seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console or Console(), clock
        self.left: TimeLeft | None = None
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}", style="progress.download"),
            TimeElapsedColumn(),
            _Left(lambda: self.left.seconds if self.left is not None else None),
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
        if self.left is None or len(self.left.costs.whole) != total:
            self.begin(StageCosts([1.0] * total, [0.0] * total))
        if self.resumed and not resumed:
            self.console.print(
                f"Going on after stage {index}/{total}, where an earlier run was stopped", highlight=False
            )
            self._time_left.restart(index)
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
        self._move(record.index + 1)

    @property
    def _time_left(self) -> TimeLeft:
        assert self.left is not None
        return self.left

    def _move(self, index: int, loop: float = 0.0) -> None:
        left = self._time_left
        left.reached(index, loop)
        count = f"{index}/{len(left.costs.whole)}"
        self.bar.update(self.stages, completed=left.done, total=left.total, count=count)
