"""Test images that are simulated once more: so many, or what comes in one size."""

from typing import Any

import pytest
import torch

from snn_lightning.cli.experiment import Experiment


class Loaded(Experiment):
    """Gives batches of some sizes."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.batches = [torch.full(shape, float(i)) for i, shape in enumerate(shapes)]

    def test_batches(self) -> Any:
        yield from self.batches


@pytest.mark.parametrize(
    ("shapes", "count", "expected"),
    [
        ([(8, 2), (8, 2), (8, 2)], 16, [0.0] * 8 + [1.0] * 8),
        ([(8, 2), (8, 2)], 10, [0.0] * 8 + [1.0] * 2),
        ([(3, 2), (3, 2)], 10, [0.0] * 3 + [1.0] * 3),
        ([(3, 2), (3, 4), (3, 2)], 10, [0.0] * 3),
    ],
)
def test_the_first_images_of_one_size(
    shapes: list[tuple[int, ...]], count: int, expected: list[float]
) -> None:
    assert Loaded(*shapes).test_images(count)[:, 0].tolist() == expected
