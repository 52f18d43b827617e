"""Errors of channels by hand, and as in the mismatch report."""

import pytest
import torch
from torch import nn

from snn_lightning import Burst, convert
from snn_lightning.analysis.channels import channel_errors
from snn_lightning.analysis.mismatch import measure_mismatch
from snn_lightning.errors import SettingsError

from ..toys import MaxPooled, Residual, inputs, toy


def test_channels_by_hand() -> None:
    images = torch.tensor([[1.0, 0.7, -1.0, 0.3], [0.5, 0.5, -1.0, 0.1]])
    snn = convert(nn.ReLU(), images, 1)
    snn.neurons["relu"].set_threshold(torch.tensor([1.0, 1.0, 1.0, 0.5]), "potential", 1)
    # Half a threshold fires: rates 1 and 1, 1 and 1, nothing, 0.5 and 0.
    found = channel_errors(nn.ReLU(), snn, images)["relu"]
    expected = [0.25 / 1.25, (0.09 + 0.25) / 0.74, 0.0, (0.04 + 0.01) / 0.1]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_channel_that_only_the_snn_uses() -> None:
    images = torch.tensor([[-1.0]])
    snn = convert(nn.ReLU(), images, 1)
    snn.neurons["relu"].bias += 5
    assert channel_errors(nn.ReLU(), snn, images)["relu"].tolist() == [1.0]


@pytest.mark.parametrize("toy_class", [Residual, MaxPooled], ids=lambda t: t.__name__)
def test_the_channels_make_up_the_site(toy_class: type[nn.Module]) -> None:
    ann, images = toy(toy_class), inputs(toy_class, 20)
    snn = convert(ann, images, 4, neuron=Burst(2))
    snn.rows = 4
    found = channel_errors(ann, snn, images)
    totals = {s.name: s.total for s in measure_mismatch(ann, snn, images).stages if s.kind == "neuron"}
    assert list(found) == list(totals) == list(snn.network.sites)
    for site, errors in found.items():
        assert len(errors) == snn.network.shapes[site][0]
        # The site's error is a mean of its channels'.
        assert errors.min() <= totals[site] <= errors.max()


def test_bad_input() -> None:
    images = torch.tensor([[1.0]])
    snn = convert(nn.ReLU(), images, 1)
    with pytest.raises(SettingsError, match="channel_errors needs at least one image"):
        channel_errors(nn.ReLU(), snn, images[:0])
    with pytest.raises(SettingsError, match="not of this ANN"):
        channel_errors(nn.Sequential(nn.ReLU(), nn.Linear(1, 1)), snn, images)
