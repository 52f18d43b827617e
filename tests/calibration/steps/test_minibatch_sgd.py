"""The mini-batches of gradient descent."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.steps.minibatch_sgd import mini_batches, own_rows
from snn_lightning.calibration.walk.communicator import Communicator


class Process(Communicator):
    """One of several processes, of which nothing but the number matters."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size


def drawn(count: int, batch: int, epochs: int, seed: int = 0) -> list[torch.Tensor]:
    batches = mini_batches(count, batch, torch.Generator().manual_seed(seed))
    return list(islice(batches, epochs * (count // batch)))


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 99))
def test_no_image_comes_twice_in_an_epoch(batch: int, more: int, seed: int) -> None:
    count = batch + more
    images = torch.cat(drawn(count, batch, 1, seed))
    assert len(images) == count // batch * batch
    assert len(images.unique()) == len(images)
    assert 0 <= images.min() <= images.max() < count


def test_every_image_comes_sooner_or_later_and_the_order_changes() -> None:
    batches = drawn(11, 4, 40)
    assert len(torch.cat(batches).unique()) == 11
    assert len({tuple(batch.sort().values.tolist()) for batch in batches}) > 20


@pytest.mark.parametrize(("batch", "processes"), [(32, 1), (32, 2), (32, 8), (8, 16), (32, 64)])
def test_processes_have_equal_shares(batch: int, processes: int) -> None:
    shares = {
        len(own_rows(chosen, Process(rank, processes)))
        for chosen in drawn(256, batch, 2)
        for rank in range(processes)
    }
    largest = Work(1, 1, batch_size=batch, processes=processes).largest_batch
    assert max(shares) == largest
    assert len(shares) == 1 or processes > batch


def test_processes_together_have_the_whole_mini_batch() -> None:
    for chosen in drawn(50, 6, 1):
        rows = [3 * own_rows(chosen, Process(rank, 3)) + rank for rank in range(3)]
        assert torch.equal(torch.cat(rows).sort().values, chosen.sort().values)
