"""The share of multiply-accumulates that spike, against counting by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lightning import conversion_report, convert

from ..toys import Excited, MaxPooled, inputs, toy
from .nets import images, net

FIRST, SECOND = 3 * 4 * 9 * 36, 4 * 4 * 9 * 36
"""Multiply-accumulates of the convolutions of `net`, whose linear layer has 20."""


def pooled(s: Any, x: Tensor) -> Tensor:
    return s.linear(F.relu(s.conv(x)).mean((2, 3)))
