"""Matrix products: with a constant they are linear layers, of two activations they are refused."""

from __future__ import annotations

import operator
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_lightning.graph.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.remedies import REMEDIES
from snn_lightning.graph.rules.registry import function_rule
from snn_lightning.graph.rules.synapses import linear


@function_rule(operator.matmul, torch.matmul, "matmul")
def _matmul(low: Lowering, a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        raise Unsupported(REMEDIES["product"])
    if not isinstance(a, Value) or b.dim() != 2:
        raise Unsupported(
            "only x @ W with a constant W [in, out] is a linear layer; write it as nn.Linear or a convolution"
        )
    return linear(low, a, b.t())


@function_rule(torch.einsum)
def _einsum(low: Lowering, equation: Any, *operands: Any) -> NoReturn:
    if isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    if sum(isinstance(part, Value) for part in operands) > 1:
        raise Unsupported(REMEDIES["product"])
    raise Unsupported("with a constant it is a linear layer; write it as nn.Linear or a convolution")


@function_rule(torch.bmm, "bmm")
def _bmm(low: Lowering, a: Any, b: Any) -> NoReturn:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        raise Unsupported("with a constant it is a linear layer; write it as nn.Linear or a convolution")
    raise Unsupported(REMEDIES["product"])


@function_rule(F.scaled_dot_product_attention)
def _attention(low: Lowering, *args: Any, **kwargs: Any) -> NoReturn:
    raise Unsupported(REMEDIES["attention"])
