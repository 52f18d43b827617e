"""What differs between versions of PyTorch, Lightning and others that the package supports."""

import pytest
import torch
from lightning.pytorch import callbacks


def release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2])


TORCH = release(torch.__version__)
SET_BY_NAME = hasattr(torch.backends, "fp32_precision")
"""Whether float32 products have switches that say "ieee" and "tf32", as from PyTorch 2.9 on."""

needs_averaging = pytest.mark.skipif(
    not hasattr(callbacks, "EMAWeightAveraging"), reason="EMAWeightAveraging came with Lightning 2.6"
)


def float32_switches() -> list[str]:
    """Return "ieee" or "tf32" for each kind of float32 product."""
    backends = torch.backends
    if SET_BY_NAME:
        owners = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        return [owner.fp32_precision for owner in owners]
    return ["tf32" if owner.allow_tf32 else "ieee" for owner in (backends.cuda.matmul, backends.cudnn)]
