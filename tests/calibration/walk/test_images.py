"""The calibration images are in the cache alone, and no longer than something reads them."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from snn_lightning import LCP, Best, Distillation
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.images import collect_images, shard
from snn_lightning.calibration.walk.cache import Cache
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.network_context import NetworkContext
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.errors import CalibrationError
from snn_lightning.graph import INPUT
from tests.calibration.support import make_loop, same_bits
from tests.toys import AS_GIVEN, Residual, inputs, toy

BEST = Best(4, **AS_GIVEN, potential=None, distillation=Distillation(4, batch_size=16))


class Count(Observer):
    """Counts, when a stage or step begins, how many of some storages still exist."""

    def __init__(self, storages: list[StorageWeakRef]) -> None:
        self.storages, self.alive = storages, list[int]()

    def stage_started(self, index, total, name, resumed):
        self.alive.append(self.now)

    @property
    def now(self):
        return sum(not storage.expired() for storage in self.storages)


@pytest.mark.parametrize("pipeline", [LCP(4), BEST], ids=lambda p: type(p).__name__)
def test_what_the_loader_gave_is_gone_before_the_first_stage(pipeline):
    storages = []

    def loader():
        for seed in range(3):
            batch = inputs(Residual, 16, seed)
            storages.append(StorageWeakRef(batch.untyped_storage()))
            yield batch, seed

    observer, batches = Count(storages), collect_images(loader())
    assert observer.now == 3
    run_calibration(toy(Residual), batches, pipeline, Communicator(), observer)
    assert batches == []
    assert set(observer.alive) == {0}
    with pytest.raises(
        CalibrationError, match=r"no calibration images: .* empties the list .* pass a new one"
    ):
        run_calibration(toy(Residual), batches, pipeline, Communicator(), observer)


@pytest.mark.parametrize(
    ("pipeline", "alive"), [(LCP(4), [2] + 5 * [0]), (BEST, 7 * [2])], ids=["lcp", "best"]
)
def test_the_images_stay_for_a_step_that_reads_them_and_no_longer(pipeline, alive):
    images = inputs(Residual, 48)
    loop = make_loop(toy(Residual), images, pipeline)
    entries = loop.values[INPUT].ann
    loop.observer = Count([StorageWeakRef(entry.tensor.untyped_storage()) for entry in entries])
    assert loop.cache.used == images.nbytes
    loop.run()
    assert loop.observer.alive == alive
    assert loop.observer.now == loop.cache.used == 0


def test_distillation_reads_them_where_the_budget_has_put_them():
    one, two = (
        make_loop(
            toy(Residual),
            inputs(Residual, 48),
            Best(4, **AS_GIVEN, distillation=BEST.distillation, **settings),
        )
        for settings in ({}, {"cache_budget_gb": 1e-9})
    )
    assert all(entry.tensor is None for entry in two.values[INPUT].ann)
    for loop in (one, two):
        loop.run()
    assert same_bits(one.snn, two.snn)


def test_images_are_taken_by_their_numbers_in_any_order():
    images = inputs(Residual, 40)
    loop = make_loop(toy(Residual), images, BEST)
    rest = {
        "total": 40,
        "fitted": 40,
        "communicator": Communicator(),
        "seed": 0,
        "iteration": lambda *args: None,
    }
    context = NetworkContext(loop.ann, loop.snn, loop.values[INPUT].ann, loop.indices, **rest)
    for rows in ([7], [39, 0, 32, 31, 5], list(range(40))[::-1]):
        assert torch.equal(context.take(torch.tensor(rows)), images[rows])


def test_images_of_several_sizes_are_taken_by_size():
    images = [torch.full((1, 3, 8 + i % 3, 8), float(i)) for i in range(20)]
    chunks, indices = shard([image for (image,) in images], 1, 2, 3)
    rest = {
        "total": 20,
        "fitted": 20,
        "communicator": Communicator(),
        "seed": 0,
        "iteration": lambda *args: None,
    }
    context = NetworkContext(None, None, [Cache().put(chunk) for chunk in chunks], indices, **rest)
    rows = torch.tensor([9, 2, 0, 5, 1])
    parts = list(context.of_one_size(rows))
    assert sorted(torch.cat(parts).tolist()) == [0, 1, 2, 5, 9]
    for part in parts:
        got = context.take(part)
        # Row k is image 2 k + 1 of the set.
        assert got[:, 0, 0, 0].tolist() == (2 * part + 1).tolist()
        assert torch.equal(context.take(part, [index.float() for index in indices]), got[:, 0, 0, 0])
