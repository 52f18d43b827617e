"""Every classifier of torchvision that converts computes the same as plain operators, at its full width."""

import gc

import pytest
import torch
import torchvision
from torch import nn

from snn_lightning.graph import normalise, prepare
from snn_lightning.models.torchvision_models import list_torchvision_models

from ..toys import randomise_batch_norms
from .test_sites import relative_error
from .test_stages import check_partition
from .weightless import activation_calls

REFUSED = ("convnext", "efficientnet", "maxvit", "mobilenet_v3", "regnet_y", "swin", "vit")
SIZES = {"inception_v3": 96}
"""Height and width of the images, in pixels, where 64 are too few."""

QUICK = (
    "alexnet",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "regnet_x_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vgg11",
)
"""The smallest of each family; all others are slow tests."""

NAMES = [name for name in list_torchvision_models() if not name.startswith(REFUSED)]


def classifier(name: str) -> nn.Module:
    """Return a classifier with its auxiliary heads, random weights and random batch norms."""
    heads = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise_batch_norms(torchvision.models.get_model(name, weights=None, **heads)).eval()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_a_classifier_is_reproduced(name: str) -> None:
    """`normalise` itself compares with the ANN; here on another image and in another layout of stages."""
    ann = classifier(name)
    size = SIZES.get(name, 64)
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    network = prepare(normalise(ann, images[:2]), images[:2])
    check_partition(network)
    with torch.no_grad():
        assert relative_error(network(images[2:]), ann(images[2:])) < 1e-4
    assert len(network.sites) == activation_calls(ann, images[2:])
    del ann, network
    gc.collect()


def test_a_quick_one_stands_for_every_family() -> None:
    families = tuple(name.rstrip("0123456789_xmfd")[:8] for name in QUICK)
    assert set(QUICK) <= set(NAMES)
    assert [name for name in NAMES if not name.startswith((*families, "wide_resnet"))] == []
