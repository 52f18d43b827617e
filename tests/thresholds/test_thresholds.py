import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.spiking.neurons.dynamics import clip_floor, clip_round
from snn_lightning.thresholds import (
    MMSE,
    Histogram,
    Max,
    Percentile,
    Threshold,
    histogram,
    positive,
    row_maximum,
    squared_errors,
)
from snn_lightning.thresholds.histogram import BINS, _joined


def activations(channels: int, count: int, seed: int = 0) -> Tensor:
    """Rectified activations `[1, C, count]` of many scales, with channels of heavy tails among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, count, generator=generator)
    x += torch.randn(1, channels, 1, generator=generator) * 0.5
    x *= torch.rand(1, channels, 1, generator=generator) * 5 + 0.01
    heavy = torch.rand(1, channels, 1, generator=generator) < 0.3
    return torch.where(heavy, x * x.abs(), x).relu()


def find(threshold: Threshold, x: Tensor, timesteps: int = 4, half_step: bool = True) -> Tensor:
    maximum = row_maximum([x], threshold.channelwise)
    counts = histogram([x], maximum, threshold.channelwise, threshold.bins(timesteps))
    return threshold.find(counts, timesteps, half_step)


def literal_errors(x: Tensor, timesteps: int, half_step: bool, grid: int = 100) -> Tensor:
    """Squared error of every candidate j / grid * max for rows `[C, M]`, one candidate after the other."""
    x = x.double()
    maximum = x.amax(1, keepdim=True)
    quantise = clip_round if half_step else clip_floor
    errors = [(quantise(x, timesteps, j / grid * maximum) - x).square().sum(1) for j in range(1, grid + 1)]
    return torch.stack(errors, 1)


def indices(found: Tensor, x: Tensor) -> Tensor:
    """Which of the 100 candidates was found, from 0."""
    index = (found / x[0].amax(1) * 100).round().long() - 1
    assert torch.allclose(found, (index + 1) / 100 * x[0].amax(1))
    return index


@pytest.mark.parametrize("timesteps", [1, 2, 4, 8, 16, 32])
def test_mmse_is_the_literal_grid_search(timesteps: int) -> None:
    x = activations(400, 500, seed=timesteps)
    errors = literal_errors(x[0], timesteps, True)
    index = indices(find(MMSE(), x, timesteps), x)
    assert (index == errors.argmin(1)).double().mean().item() >= 0.999


def test_mmse_at_many_time_steps_is_the_literal_grid_search_to_a_bin() -> None:
    timesteps = 64
    x = activations(400, 500, seed=timesteps)
    errors = literal_errors(x[0], timesteps, True)
    index = indices(find(MMSE(), x, timesteps), x)
    error, least = errors.gather(1, index[:, None])[:, 0], errors.amin(1)
    same = (index == errors.argmin(1)) | (error <= least * (1 + 1e-4))
    assert same.double().mean().item() >= 0.999
    # Where a neighbour is taken, it is as good as the best but for the width of a bin.
    assert (error <= least * 1.001).all()


@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_mmse_of_flooring_neurons_is_the_literal_grid_search(timesteps: int) -> None:
    # The error of ClipFloor jumps at its boundaries, so that the largest activation, which lies on one, may
    # count as below it.
    x = activations(200, 500, seed=timesteps)
    errors = literal_errors(x[0], timesteps, False)
    index = indices(find(MMSE(), x, timesteps, half_step=False), x)
    assert (index == errors.argmin(1)).double().mean() >= 0.99
    assert (errors.gather(1, index[:, None])[:, 0] <= errors.amin(1) * 1.05).all()
    # And it isn't the threshold of rounding neurons.
    assert (index != indices(find(MMSE(), x, timesteps), x)).any()


def test_mmse_of_a_whole_layer_is_the_literal_grid_search() -> None:
    x = activations(30, 400)
    errors = literal_errors(x.reshape(1, -1), 8, True)
    found = find(MMSE("layer"), x, 8)
    assert found.shape == (1,)
    assert found.item() == pytest.approx((errors.argmin().item() + 1) / 100 * x.max().item())


def test_mmse_by_hand() -> None:
    # T = 1, 9 activations of 1 and one of 10: for v <= 2, error 9 (1 - v)^2 + (10 - v)^2 is least at v =
    # 19/10, of the grid's 0.1, 0.2... Above 2 the ones round to nothing: 9 + (10 - v)^2 is 9 at v = 10.
    x = torch.tensor([1.0] * 9 + [10.0]).view(1, 1, 10)
    assert find(MMSE(), x, timesteps=1).item() == pytest.approx(10.0)
    # With 200 ones: 200 (1 - v)^2 + (10 - v)^2 is least at 210 / 201 = 1.04, so 1.0 (81) beats 1.1 (81.2),
    # and 10 (200).
    x = torch.tensor([1.0] * 200 + [10.0]).view(1, 1, 201)
    assert find(MMSE(), x, timesteps=1).item() == pytest.approx(1.0)


def test_the_grid_is_a_setting() -> None:
    x = activations(20, 200)
    found = find(MMSE(grid=4), x) / x[0].amax(1)
    assert set(found.mul(4).round(decimals=4).tolist()) <= {1.0, 2.0, 3.0, 4.0}


def test_squared_errors_by_hand() -> None:
    # Activations 0, 1, 2, 4, T = 2, threshold 4: a step of 2, rounded to 0, 2 (1/2 up), 2, 4.
    x = torch.tensor([0.0, 1.01, 2.0, 4.0]).view(1, 1, 4)
    counts = histogram([x], torch.tensor([4.0]), True)
    # Only to a bin: the error of the one activation that is not on a step.
    round_ = squared_errors(counts, torch.tensor([1.0]).double(), 2, True)
    assert round_.item() == pytest.approx(0.99**2, abs=1e-4)
    floor_ = squared_errors(counts, torch.tensor([1.0]).double(), 2, False)
    # 2 and 4 lie on boundaries, so that each may be taken for one step less.
    options = [1.01**2 + 4.0 * lost for lost in (0, 1, 2)]
    assert min(abs(floor_.item() - option) for option in options) < 1e-2


def test_max_is_the_largest_activation() -> None:
    x = activations(50, 100)
    assert torch.equal(find(Max(), x), x[0].amax(1))
    assert find(Max("layer"), x).tolist() == [x.max().item()]


@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0, 99.9])
def test_percentile_is_the_quantile_to_a_bin(percentile: float, granularity: str) -> None:
    x = activations(40, 5000).add(0.001)
    rows = (x[0] if granularity == "channel" else x.reshape(1, -1)).double()
    found = find(Percentile(granularity, percentile), x).double()
    # Between the neighbours in rank of the wanted activation.
    step = 1.0 / rows.shape[1]
    q = percentile / 100
    ordered = rows.sort(1).values
    low = ordered[:, max(int((q - step) * (rows.shape[1] - 1)) - 1, 0)]
    high = ordered[:, min(int((q + step) * (rows.shape[1] - 1)) + 2, rows.shape[1] - 1)]
    width = rows.amax(1) / BINS
    assert (found >= low - width).all()
    assert (found <= high + width).all()
    reference = torch.quantile(rows, q, dim=1)
    assert (found - reference).abs().max() <= (high - low + 2 * width).max()


def test_percentile_100_is_the_maximum() -> None:
    x = activations(30, 300)
    assert torch.allclose(find(Percentile(percentile=100), x), x[0].amax(1))


def test_percentile_counts_zeros() -> None:
    # 90 zeros and 1...10: of 100 values, 95 % lie below 5 or 6.
    x = torch.cat([torch.zeros(90), torch.arange(1.0, 11.0)]).view(1, 1, 100)
    assert find(Percentile(percentile=95), x).item() == pytest.approx(5.5, abs=0.51)


def test_percentile_of_a_rarely_positive_channel_is_its_maximum() -> None:
    x = torch.zeros(1, 1, 1000)
    x[0, 0, 0] = 3.0
    assert find(Percentile(percentile=90), x).item() == 3.0


@pytest.mark.parametrize("threshold", [Max(), Percentile(), MMSE()])
def test_a_dead_channel_gets_a_positive_finite_threshold(threshold: Threshold) -> None:
    x = activations(5, 100)
    x[:, 2] = 0.0
    found = find(threshold, x)
    assert torch.isfinite(found).all()
    v_th = positive(found)
    assert v_th[2] == found.max()
    assert torch.equal(v_th[[0, 1, 3, 4]], found[[0, 1, 3, 4]])


@pytest.mark.parametrize("threshold", [Max("layer"), Percentile("layer"), MMSE("layer")])
def test_a_dead_layer_gets_threshold_one(threshold: Threshold) -> None:
    assert positive(find(threshold, torch.zeros(2, 5, 3))).tolist() == [1.0]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.booleans(), st.integers(0, 1000))
def test_histograms_add_up_over_batches(sizes: list[int], channelwise: bool, seed: int) -> None:
    x = torch.randn(sum(sizes), 4, 6, generator=torch.Generator().manual_seed(seed)).relu()
    chunks = x.split(sizes)
    maximum = row_maximum(chunks, channelwise)
    assert torch.equal(maximum, row_maximum([x], channelwise))
    together = histogram([x], maximum, channelwise, bins=32)
    added = [histogram([chunk], maximum, channelwise, bins=32).parts() for chunk in chunks]
    summed = Histogram(maximum, *(torch.stack(part).sum(0) for part in zip(*added, strict=True)))
    for mine, whole in zip(summed.parts(), together.parts(), strict=True):
        assert torch.allclose(mine, whole, rtol=1e-12)


def test_a_histogram_by_hand() -> None:
    # Two channels of two images; bins of width 1 up to 4.
    x = torch.tensor([[[0.0, 0.5, 4.0], [0.0, 0.0, 0.0]], [[1.5, 3.5, -2.0], [0.0, 0.0, 0.0]]])
    counts = histogram([x], row_maximum([x], True), True, bins=4)
    assert counts.maximum.tolist() == [4.0, 0.0]
    assert counts.count.tolist() == [[1, 1, 0, 2], [0, 0, 0, 0]]
    assert counts.first.tolist() == [[0.5, 1.5, 0, 7.5], [0, 0, 0, 0]]
    assert counts.total.tolist() == [6, 6]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Max("pixel"), "threshold.granularity must be 'channel' or 'layer', got 'pixel'"),
        (lambda: Percentile(percentile=0), r"threshold.percentile must be in \(0, 100\], got 0"),
        (lambda: Percentile(percentile=101.0), "got 101.0"),
        (lambda: MMSE(grid=0), "threshold.grid must be a whole number of at least 1, got 0"),
        (lambda: MMSE(grid=2.5), "got 2.5"),
        (lambda: MMSE(grid=True), "got True"),
    ],
)
def test_bad_settings_name_the_field(build, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build()


def test_chunks_are_joined_up_to_a_size_and_within_a_shape():
    shapes = [(2, 3, 4), (1, 3, 4), (2, 3, 4), (2, 3, 5)]
    chunks = [torch.full(shape, float(i)) for i, shape in enumerate(shapes)]
    joined = list(_joined(iter(chunks), least=36))
    assert [tuple(x.shape) for x in joined] == [(3, 3, 4), (2, 3, 4), (2, 3, 5)]
    assert torch.equal(joined[0], torch.cat(chunks[:2]))
    assert [x.mean().item() for x in joined[1:]] == [2, 3]
    assert list(_joined([])) == []
