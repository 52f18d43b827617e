"""A small network that is really trained, on scikit-learn's 8x8 digits."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


@pytest.fixture(scope="session")
def digits() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return a trained network, its training images, and the test images with their labels."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ann = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )
        optimizer = torch.optim.Adam(ann.parameters(), lr=3e-3)
        for _ in range(3):
            for batch in torch.randperm(1500).split(50):
                optimizer.zero_grad()
                nn.functional.cross_entropy(ann(images[batch]), labels[batch]).backward()
                optimizer.step()
    return ann.eval(), images[:1500], images[1500:], labels[1500:]
