from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from snn_lightning import ActivationStatistics, capture_statistics
from snn_lightning.errors import CalibrationError, CheckpointError
from snn_lightning.synthesis.generate import Source
from tests.synthesis.support import Plain, experienced, pictures


def test_batch_norms_say_what_came_in() -> None:
    net = experienced()
    statistics = ActivationStatistics.of_batch_norms(net)
    assert list(statistics.layers) == ["features.1", "features.5"]
    x = net.features[0](pictures(256))
    mean, variance = statistics.layers["features.1"]
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(variance, x.var((0, 2, 3)))


def test_frozen_batch_norms_say_it_too() -> None:
    frozen = FrozenBatchNorm2d(2)
    frozen.running_mean.fill_(3)
    mean, variance = ActivationStatistics.of_batch_norms(nn.Sequential(frozen)).layers["0"]
    assert (mean.tolist(), variance.tolist()) == ([3, 3], [1, 1])


@pytest.mark.parametrize("net", [Plain(), nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True))])
def test_a_network_without_batch_norm_is_refused(net: nn.Module) -> None:
    with pytest.raises(
        CalibrationError,
        match=r"has no batch norm, so.*capture_statistics\(ann, loader\).*synthesis.statistics=FILE",
    ):
        ActivationStatistics.of_batch_norms(net)


def test_batch_norms_that_track_nothing_are_refused() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(CalibrationError, match=r"no batch norm with running statistics \(0 track none\)"):
        ActivationStatistics.of_batch_norms(net)


@pytest.mark.parametrize("sizes", [(64,), (1, 13, 50), (32, 32)])
def test_captured_statistics_are_mean_and_variance_whatever_the_batches(sizes: tuple[int, ...]) -> None:
    net, images = Plain(), pictures(64, 1)
    statistics = capture_statistics(net, images.split(sizes))
    conv = net.conv(images).detach()
    head = net(images).detach()
    assert list(statistics.layers) == ["conv", "head"]
    for name, x in (("conv", conv.movedim(1, 0).flatten(1)), ("head", head.T)):
        mean, variance = statistics.layers[name]
        torch.testing.assert_close(mean, x.double().mean(1).float())
        torch.testing.assert_close(variance, x.double().var(1, correction=0).float())


def test_a_module_that_is_called_twice_is_counted_twice() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2)
    mean, variance = capture_statistics(nn.Sequential(layer, layer), [torch.ones(3, 1)]).layers["0"]
    assert (mean.item(), variance.item()) == (3, 1)  # of 2 and 4


def test_capturing_leaves_the_network_and_the_random_stream() -> None:
    net = Plain().train()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    capture_statistics(net, [(pictures(4, 1), torch.zeros(4))])
    assert net.training
    assert net.conv._forward_hooks == {}
    assert torch.equal(torch.get_rng_state(), state)


def test_statistics_of_nothing_and_of_nan_are_refused() -> None:
    with pytest.raises(CalibrationError, match="the loader is empty"):
        capture_statistics(Plain(), [])
    with pytest.raises(CalibrationError, match=r"Plain gives NaN or infinite values .* at conv, head"):
        capture_statistics(Plain(), [torch.full((2, 1, 8, 8), torch.nan)])


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    statistics = capture_statistics(Plain(), [pictures(8, 1)])
    statistics.save(tmp_path / "plain.pt")
    loaded = ActivationStatistics.load(tmp_path / "plain.pt")
    torch.testing.assert_close(dict(loaded.layers), dict(statistics.layers), rtol=0, atol=0)
    assert loaded.fingerprint() == statistics.fingerprint()
    assert (tmp_path / "plain.pt").stat().st_size < 10_000
    other = capture_statistics(Plain(), [pictures(9, 1)])
    assert other.fingerprint() != statistics.fingerprint()


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt"
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        ActivationStatistics.load(path)
    capture_statistics(Plain(), [pictures(8, 1)]).save(path)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="can't be read"):
        ActivationStatistics.load(path)
    torch.save(Plain().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"holds no activation statistics.*capture_statistics"):
        ActivationStatistics.load(path)


def test_statistics_of_another_network_are_refused_by_name() -> None:
    statistics = capture_statistics(Plain(), [pictures(8, 1)])
    with pytest.raises(CheckpointError, match=r"than PlainConv: of layers that it doesn't have \(conv\)"):
        Source(experienced(), statistics)
    wider = Plain()
    wider.conv = nn.Conv2d(1, 6, 3)
    with pytest.raises(CheckpointError, match=r"another number of channels in it \(conv\)"):
        Source(wider, statistics)


def test_an_activation_in_place_does_not_change_what_is_matched() -> None:
    images = pictures(16, 1)
    distance, features = Source(Plain(), capture_statistics(Plain(), [images]))(images)
    assert distance.item() == pytest.approx(0, abs=1e-9)
    assert features.shape == (16, 2)
