"""The progress bar."""

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
from snn_lightning.calibration.walk.eta import StageCosts
from snn_lightning.calibration.walk.observer import Observer, RichObserver
from snn_lightning.calibration.walk.records import StageRecord
from snn_lightning.callbacks.observer import LoggingObserver
from tests.calibration.walk.conftest import Clock
from tests.toys import PlainConv, Residual, inputs, toy


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


def test_the_line_says_where_potentials_are_those_of_channels() -> None:
    console = Console(file=io.StringIO())
    record = StageRecord(0, "one", "neuron", "", error=0.1)
    record.steps = {"potential": {"before": 0.2, "after": 0.1, "channelwise": 1.0}}
    RichObserver(console).stage_finished(record, 1)
    assert "potential channelwise 0.200->0.100" in console.file.getvalue()


def test_without_costs_all_stages_count_the_same(clock: Clock) -> None:
    observer = RichObserver(Console(file=io.StringIO()), clock)
    observer.stage_started(0, 4, "one", False)
    clock.move(1)
    observer.stage_started(1, 4, "two", False)
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
    assert len(costs.stages) == len(costs.sgd) == len(model.network.stages)
    assert all(0 <= sgd < whole for whole, sgd in zip(costs.stages, costs.sgd, strict=True))
    assert any(costs.sgd) == isinstance(pipeline, ACP)


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
