"""Errors of thresholds against a slow reference."""

import pytest
import torch
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.thresholds import Percentile, histogram
from snn_lightning.thresholds.errors import threshold_errors


def reference(x: Tensor, v: float, timesteps: int, half: float) -> float:
    spikes = (x.double() * timesteps / v + half).floor().clamp(0, timesteps)
    return (spikes * v / timesteps - x).square().mean().item()


@pytest.mark.parametrize(("half_step", "half"), [(True, 0.5), (False, 0.0)])
def test_every_candidate(half_step: bool, half: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 4, 3).exp().requires_grad_()
    found = threshold_errors(x, [2, 7], grid=20, percent=90.0, half_step=half_step)
    x = x.detach()
    assert found.maximum == x.max()
    assert not found.errors[2].requires_grad
    assert found.percent == 90.0
    counts = histogram([x], x.max().view(1), channelwise=False)
    assert found.percentile == Percentile("layer", 90.0).find(counts, 2, half_step)
    torch.testing.assert_close(found.thresholds, torch.arange(1, 21).double() / 20 * x.max().double())
    for t in (2, 7):
        slow = torch.tensor([reference(x, v, t, half) for v in found.thresholds.tolist()]).double()
        # A histogram can't tell the largest activation from what lies just below it, where a floor decides.
        same = slice(None) if half_step else slice(-1)
        torch.testing.assert_close(found.errors[t][same], slow[same], rtol=1e-3, atol=1e-6)
        assert found.mmse[t] == pytest.approx(found.thresholds[slow.argmin()].item())


def test_bad_input() -> None:
    x = torch.ones(2, 1)
    with pytest.raises(SettingsError, match="grid must be a whole number of at least 1, got 0"):
        threshold_errors(x, [4], grid=0)
    with pytest.raises(SettingsError, match="timesteps must be a whole number of at least 1, got 0"):
        threshold_errors(x, [4, 0])
    with pytest.raises(SettingsError, match="timesteps must name at least one T"):
        threshold_errors(x, [])
    with pytest.raises(SettingsError, match="at least one is positive"):
        threshold_errors(-x, [4])
    with pytest.raises(SettingsError, match="at least one is positive"):
        threshold_errors(x[:0], [4])
    for number in (float("inf"), float("nan")):
        with pytest.raises(SettingsError, match="activations that are finite"):
            threshold_errors(torch.tensor([[1.0], [number]]), [4])
    with pytest.raises(SettingsError, match=r"threshold.percentile must be in \(0, 100\], got 0"):
        threshold_errors(x, [4], percent=0)
