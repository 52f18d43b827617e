"""The time left, with a clock that the tests move."""

import io
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from rich.console import Console
from torch import nn

from snn_lightning import ACP, LCP, Pipeline, Weights
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.progress import Observer, RichObserver, StageCosts, StageRecord, TimeLeft
from snn_lightning.callbacks.observer import LoggingObserver
from tests.toys import PlainConv, Residual, inputs, toy


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


UNEQUAL = [1.0, 50.0, 2.0, 400.0, 8.0, 0.5, 100.0, 3.0]


def test_unequal_stages_are_foreseen_exactly_where_the_model_is_right(clock: Clock) -> None:
    left = TimeLeft(StageCosts(UNEQUAL, [0.0] * 8), clock)
    assert left.seconds is None
    for index, cost in enumerate(UNEQUAL):
        left.reached(index)
        if index:
            assert left.seconds == pytest.approx(3 * sum(UNEQUAL[index:]))
            clock.move(0.9 * cost)
            assert left.seconds == pytest.approx(3 * sum(UNEQUAL[index:]) - 0.9 * cost)
            clock.move(2.1 * cost)
        else:
            clock.move(3 * cost)
    left.reached(len(UNEQUAL))
    assert left.seconds == 0


def test_a_model_that_is_off_by_less_than_two_foretells_within_two(clock: Clock) -> None:
    real = [cost * (1.4 if index % 2 else 0.75) for index, cost in enumerate(UNEQUAL)]
    left = TimeLeft(StageCosts(UNEQUAL, [0.0] * 8), clock)
    for index, cost in enumerate(real):
        left.reached(index)
        if index >= 2:
            assert 0.5 < left.seconds / sum(real[index:]) < 2  # type: ignore[operator]
        clock.move(cost)


def test_a_stage_that_takes_longer_leaves_the_time_of_those_behind_it(clock: Clock) -> None:
    left = TimeLeft(StageCosts([1.0, 2.0, 4.0], [0.0] * 3), clock)
    clock.move(10)
    left.reached(1)
    assert left.seconds == pytest.approx(60)
    clock.move(15)
    assert left.seconds == pytest.approx(45)
    clock.move(1000)
    assert left.seconds == pytest.approx(40)


def test_sgd_moves_the_bar_inside_a_stage(clock: Clock) -> None:
    left = TimeLeft(StageCosts([10.0, 10.0], [8.0, 8.0]), clock)
    clock.move(2)
    left.reached(0, 0.25)
    assert (left.done, left.seconds) == (2.0, pytest.approx(18))
    left.reached(1, 1.0)
    assert left.done == 18


def test_stages_of_an_earlier_run_do_not_count(clock: Clock) -> None:
    left = TimeLeft(StageCosts([10.0, 10.0, 1.0, 1.0, 5.0], [0.0] * 5), clock)
    clock.move(0.5)  # two stages that are only fired again
    left.restart(2)
    assert left.seconds is None
    clock.move(2)
    left.reached(3)
    assert left.seconds == pytest.approx(12)


def shown(observer: RichObserver) -> str:
    with observer.console.capture() as capture:
        observer.console.print(observer.bar.get_renderable())
    return capture.get()


def test_the_bar_shows_stages_and_the_time_left(clock: Clock) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
    observer = RichObserver(console, clock)
    observer.begin(StageCosts([1.0, 3.0, 36.0], [0.0, 0.0, 36.0]))
    observer.stage_started(0, 3, "one", False)
    assert "-:--:-- left" in shown(observer)
    clock.move(5)
    observer.stage_finished(StageRecord(0, "one", "neuron", ""), 3)
    observer.stage_started(1, 3, "two", False)
    assert "Calibrating two" in shown(observer)
    assert "1/3" in shown(observer)
    assert "0:03:15 left" in shown(observer)
    clock.move(15)
    observer.stage_started(2, 3, "three", False)
    clock.move(90)
    observer.iteration(2, 50, 100, 0.5)
    text = shown(observer)
    assert "SGD, loss 0.5" in text
    assert "50/100" in text
    assert text.count("left") == 1
    assert "0:01:30 left" in text
    bar = observer.bar.tasks[observer.stages]
    assert (bar.completed, bar.total) == (22.0, 40.0)


def test_without_costs_all_stages_count_the_same(clock: Clock) -> None:
    observer = RichObserver(Console(file=io.StringIO()), clock)
    observer.stage_started(0, 4, "one", False)
    clock.move(1)
    observer.stage_started(1, 4, "two", False)
    assert observer.left is not None
    assert observer.left.seconds == pytest.approx(3)


class Listens(Observer):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, costs: StageCosts) -> None:
        self.told.append(costs)

    def stage_started(self, index: int, total: int, name: str, resumed: bool) -> None:
        self.told.append(index)


@pytest.mark.parametrize("pipeline", [LCP(4), ACP(4, weights=Weights(5, batch_size=8))])
@pytest.mark.parametrize("cls", [PlainConv, Residual])
def test_a_calibration_says_once_what_its_stages_cost(cls: type[nn.Module], pipeline: Pipeline) -> None:
    observer = Listens()
    model, _ = run_calibration(toy(cls), [inputs(cls, 16)], pipeline, Communicator(), observer)
    costs = observer.told[0]
    assert observer.told[1:] == list(range(len(model.network.stages)))
    assert len(costs.whole) == len(costs.loop) == len(model.network.stages)
    assert all(0 <= loop < whole for whole, loop in zip(costs.whole, costs.loop, strict=True))
    assert any(costs.loop) == isinstance(pipeline, ACP)


def test_under_a_trainer_the_display_hears_it(tmp_path: Any) -> None:
    observer = LoggingObserver(Trainer(logger=False, enable_progress_bar=False, default_root_dir=tmp_path))
    observer.display = Listens()
    costs = StageCosts([1.0], [0.0])
    observer.begin(costs)
    assert observer.display.told == [costs]


def test_foreseeing_draws_no_random_number() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    run_calibration(toy(PlainConv), [inputs(PlainConv, 16)], LCP(4), Communicator(), RichObserver())
    assert torch.equal(torch.get_rng_state(), state)
