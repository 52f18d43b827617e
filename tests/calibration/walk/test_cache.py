"""The sweep's cache: one bit a spike, a budget, and nothing left behind."""

import dataclasses
import tempfile
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_lightning import ACP, LCP, LeastSquares, Weights, calibrate
from snn_lightning.calibration.walk.cache import Cache, StoredSpikes
from snn_lightning.calibration.walk.context import parts_of_time
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.spiking.kernels import Layout
from tests.calibration.support import make_loop, parameters, same_bits
from tests.commands import full_disk
from tests.toys import AS_GIVEN, Dense, MaxPooled, PlainConv, Residual, inputs, toy


def random_bits(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=3, max_size=5).map(tuple), st.integers(0, 99), st.randoms())
def test_spike_trains_come_back_in_their_memory_order(shape, seed, shuffle):
    order = list(range(len(shape)))
    shuffle.shuffle(order)
    memory = random_bits(tuple(shape[d] for d in order), seed)
    bits = memory.permute([order.index(d) for d in range(len(shape))])
    v_th = torch.rand(shape[2], generator=torch.Generator().manual_seed(seed)) + 0.1
    spikes = bits * v_th.view(-1, *[1] * (len(shape) - 3))
    stored = Cache().put_output(spikes)
    assert isinstance(stored, StoredSpikes)
    assert torch.equal(stored.get(), spikes)
    assert stored.get().dtype == spikes.dtype
    if 1 not in shape:
        assert Layout.of(stored.get()[0]) == Layout.of(spikes[0])


def test_channels_last_trains_stay_channels_last():
    bits = random_bits((2, 3, 5, 5, 4), 0).permute(0, 1, 4, 2, 3)
    spikes = bits.float()
    stored = Cache().put_output(spikes).get()
    assert stored.stride() == spikes.stride() != spikes.contiguous().stride()


def test_trains_of_more_than_two_values_are_stored_as_they_are():
    values = torch.tensor([[[0.0, 1.0]], [[0.5, 1.0]], [[1.0, 0.0]]])
    assert torch.equal(Cache().put_output(values).get(), values)
    first_is_plain = torch.stack([torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 2.0]])])
    assert torch.equal(Cache().put_output(first_is_plain).get(), first_is_plain)


@pytest.mark.parametrize("shape", [(16, 7, 5, 5, 3), (4, 9, 33), (32, 3, 8, 4, 4), (8, 4, 64, 3, 3)])
def test_a_spike_takes_an_eighth_of_a_byte(shape):
    cache = Cache()
    stored = cache.put_output(random_bits(shape, 0).float())
    assert cache.used / torch.Size(shape).numel() <= 0.13
    assert stored.bits.get().untyped_storage().nbytes() == cache.used
    stored.free()
    assert cache.used == 0


def test_what_is_over_the_budget_goes_to_disk_and_comes_back(tmp_path):
    cache = Cache(budget_gb=1000e-9, directory=tmp_path)
    small, large = (
        torch.arange(200.0),
        torch.arange(100.0).view(2, 5, 2, 5).to(memory_format=torch.channels_last),
    )
    entries = [cache.put(small), cache.put(large)]
    assert cache.used == 800
    assert [entry.path is None for entry in entries] == [True, False]
    assert torch.equal(entries[1].get(), large)
    assert entries[1].get().stride() == large.stride()
    assert len(list(tmp_path.rglob("*.pt"))) == 1
    entries[1].free()
    assert list(tmp_path.rglob("*.pt")) == []
    entries[0].free()
    assert cache.put(large).path is None
    cache.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_spilled_spikes_leave_the_memory(tmp_path):
    spikes = torch.ones(8, 2, 3, 8, 8)
    stored = Cache(budget_gb=0.0, directory=tmp_path).put_output(spikes)
    assert stored.bits.path is not None
    assert stored.train.bits.untyped_storage().nbytes() == 0
    assert torch.equal(stored.get(), spikes)


@pytest.mark.parametrize("cls", [Residual, Dense, MaxPooled])
@pytest.mark.parametrize("budget", [1e-9, 40_000e-9])
@pytest.mark.parametrize("weights", [Weights(3, batch_size=8), LeastSquares()])
def test_a_small_budget_changes_nothing(cls, weights, budget, temporary, monkeypatch):
    ann, images, files, most = toy(cls), inputs(cls, 40), [], [0]
    pipelines = [ACP(4, **AS_GIVEN, weights=weights, cache_budget_gb=size) for size in (None, budget)]
    free = calibrate(ann, [images], pipelines[0], progress=False)
    put = Cache.put

    def watched(cache, tensor):
        entry = put(cache, tensor)
        most.append(cache.used)
        return entry

    monkeypatch.setattr(Cache, "put", watched)

    class Count(Observer):
        def stage_finished(self, record, total):
            files.append(len(list(temporary.rglob("*.pt"))))

    loop = make_loop(ann, images, pipelines[1], Count())
    loop.run()
    assert max(files) > 0
    assert max(most) <= budget * 1e9
    assert same_bits(free, loop.snn)
    assert [r["error"] for r in free.records] == [r["error"] for r in loop.records]
    assert list(temporary.iterdir()) == []


def test_held_currents_send_no_spikes_to_disk(monkeypatch):
    # The currents of the second stage alone take 590 kB.
    written, write = [], Cache.write
    monkeypatch.setattr(Cache, "write", lambda cache, x: written.append(x.shape) or write(cache, x))
    calibrate(toy(PlainConv), [inputs(PlainConv, 48)], LCP(16, cache_budget_gb=2.7e-4), progress=False)
    assert written == []


def test_nothing_is_left_on_disk_after_an_error(temporary):
    class Stop(Observer):
        def stage_finished(self, record, total):
            assert list(temporary.rglob("*.pt"))
            raise KeyboardInterrupt

    loop = make_loop(toy(PlainConv), inputs(PlainConv), LCP(4, cache_budget_gb=1e-9), Stop())
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert list(temporary.iterdir()) == []


def test_a_full_disk_names_the_remedy(temporary):
    images = inputs(PlainConv, 128)
    assert images.numel() * 4 > 50_000
    message = r"cache could not be written to disk \(.+\)\. Raise cache_budget_gb"
    with full_disk(50_000), pytest.raises(CalibrationError, match=message):
        calibrate(toy(PlainConv), [images], LCP(1, cache_budget_gb=1e-9), progress=False)
    assert list(temporary.iterdir()) == []


def test_a_missing_folder_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(CalibrationError, match="set TMPDIR to a folder with more space"):
        calibrate(toy(PlainConv), [inputs(PlainConv)], LCP(4, cache_budget_gb=1e-9), progress=False)


def test_parameters_are_not_those_of_the_cache():
    """A tensor in the cache is the same object; nothing in the walk may write into it."""
    images = inputs(Residual, 12)
    before = images.clone()
    model = calibrate(
        toy(Residual), [images], ACP(4, **AS_GIVEN, weights=Weights(2, batch_size=8)), progress=False
    )
    assert torch.equal(images, before)
    assert all(torch.isfinite(value).all() for value in parameters(model).values())


def test_a_workspace_makes_the_oldest_values_go_to_disk(tmp_path):
    cache = Cache(budget_gb=1000e-9, directory=tmp_path)
    entries = [cache.put(torch.arange(100.0) + i) for i in range(2)]
    work = cache.workspace((10, 10), torch.ones(1))
    assert work.shape == (10, 10)
    assert cache.used == 800
    assert [entry.path is None for entry in entries] == [False, True]
    cache.release()
    assert cache.used == 400
    assert [entry.get()[0].item() for entry in entries] == [0.0, 1.0]
    for entry in entries:
        entry.free()
    assert cache.used == 0
    cache.close()


def test_a_spilled_view_takes_only_its_own_numbers_to_disk(tmp_path):
    entry = Cache(budget_gb=1e-9, directory=tmp_path).put(torch.arange(100_000.0)[:10])
    assert entry.path.stat().st_size < 10_000
    assert torch.equal(entry.get(), torch.arange(10.0))


@pytest.mark.parametrize("place", ["host", "disk"])
def test_the_place_of_the_cache_changes_nothing(place):
    pipeline = ACP(4, **AS_GIVEN, weights=Weights(3, batch_size=8))
    expected = calibrate(toy(Residual), [inputs(Residual, 8)], pipeline, progress=False)
    pipeline = dataclasses.replace(pipeline, cache_place=place)
    assert same_bits(calibrate(toy(Residual), [inputs(Residual, 8)], pipeline, progress=False), expected)


def test_an_unknown_place_is_refused():
    with pytest.raises(SettingsError, match="cache_place must be one of device, host, disk, got 'tape'"):
        LCP(4, cache_place="tape")


def test_many_time_steps_are_cut_into_parts():
    x = inputs(Residual, 20)
    whole, parts = (calibrate(toy(Residual), [x], LCP(40), progress=False) for _ in range(2))
    assert whole.images_at_once == 16
    loop = make_loop(toy(Residual), x, LCP(40))
    assert parts_of_time(loop.snn, 16) == [8] * 5
    loop.snn.rows = 16
    loop.run()
    # Sums over time are added in another order.
    for name, value in loop.snn.state_dict().items():
        assert torch.allclose(value, parts.state_dict()[name], atol=1e-6), name


def test_retired_memory_is_given_back_as_it_is_wanted_again():
    cache = Cache()
    entries = [cache.put(torch.ones(10)) for _ in range(4)]
    memory = [weakref.ref(entry.get()) for entry in entries]
    for entry in entries:
        cache.retire(entry)
    assert cache.used == 0
    assert sum(kept() is not None for kept in memory) == 4
    cache.free_retired(torch.ones(11))
    assert sum(kept() is not None for kept in memory) == 2
    cache.workspace((1,), torch.ones(1))
    assert all(kept() is None for kept in memory)


def test_a_budget_keeps_no_retired_memory():
    cache = Cache(budget_gb=1.0)
    entry = cache.put(torch.ones(10))
    memory = weakref.ref(entry.get())
    cache.retire(entry)
    assert memory() is None
