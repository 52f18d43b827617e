"""The time left."""

import pytest

from snn_lightning.calibration.walk.eta import StageCosts, TimeLeft
from tests.calibration.walk.conftest import Clock

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
