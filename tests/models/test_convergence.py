"""As T grows the SNN becomes the ANN: every model, uncalibrated, with the largest activation as threshold."""

from typing import Any

import pytest
import torch

from snn_lightning import convert
from snn_lightning.models import create_model
from tests.toys import randomise_batch_norms

MODELS: list[Any] = [
    ("vgg16", {"width": 0.0625}),
    ("vgg16_bn", {"width": 0.0625}),
    ("resnet20", {"width": 4}),
    ("resnet20", {"width": 4, "deep_stem": True}),
    ("resnet34", {"width": 4}),
    ("mobilenet", {"width": 0.25}),
    ("mnasnet", {"alpha": 0.35}),
    ("regnet_x_400mf", {"source": "torchvision"}),
    pytest.param("regnetx_4gf", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "settings"), MODELS)
def test_output_error_falls_as_one_over_t(name: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ann = create_model(name, num_classes=10, in_channels=3, image_size=32, **settings).eval()
    randomise_batch_norms(ann, 0)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = ann(x)
        errors = [((convert(ann, x, T)(x) - expected).norm() / expected.norm()).item() for T in (512, 1024)]
    assert errors[1] < 0.02
    assert 1.4 < errors[0] / errors[1] < 3
