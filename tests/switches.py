"""PyTorch's switches of float32 products, which have other names before version 2.9."""

import torch

SET_BY_NAME = hasattr(torch.backends, "fp32_precision")


def float32_switches() -> list[str]:
    """Return "ieee" or "tf32" for matrix products and convolutions, on a GPU and (if there are) on a CPU."""
    backends = torch.backends
    if SET_BY_NAME:
        owners = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        return [owner.fp32_precision for owner in owners]
    return ["tf32" if owner.allow_tf32 else "ieee" for owner in (backends.cuda.matmul, backends.cudnn)]
