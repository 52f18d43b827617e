"""Matrix products: with a constant they are linear layers, of two activations they are refused."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from string import ascii_letters
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_lightning.graph.capture.lowering import Lowering, Unsupported, Value
from snn_lightning.graph.capture.registry import function_rule
from snn_lightning.graph.capture.remedies import REMEDIES
from snn_lightning.graph.capture.rules.synapses import linear


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
def _einsum(low: Lowering, equation: Any, *operands: Any) -> Value:
    if isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    if sum(isinstance(part, Value) for part in operands) > 1:
        raise Unsupported(REMEDIES["product"])
    terms = _linear_terms(equation, operands) if isinstance(equation, str) and len(operands) == 2 else None
    if terms is None:
        raise Unsupported(
            "only a sum over one dimension with one constant [in, out], as in 'n...i,io->n...o', is a linear "
            "layer; write it as nn.Linear or a convolution"
        )
    x, weight = operands if isinstance(operands[0], Value) else operands[::-1]
    read, constant, written = terms
    (features,) = set(constant) - set(written)
    moved = read.replace(features, "")
    x = _permuted(low, x, read, moved + features)
    weight = weight if constant[1] == features else weight.t()
    y = Value(linear(low, x, weight).name, torch.Size((*x.shape[:-1], len(weight))))
    return _permuted(low, y, moved + constant.replace(features, ""), written)


def _linear_terms(equation: str, operands: Sequence[Any]) -> tuple[str, str, str] | None:
    """Return the dimensions of activation, constant and result, a letter each; None for no linear layer."""
    operand_terms, _, written = equation.replace(" ", "").partition("->")
    terms = operand_terms.split(",")
    pairs = sorted(zip(operands, terms, strict=True), key=lambda pair: isinstance(pair[0], Tensor))
    (x, read), (weight, constant) = pairs
    others = [letter for letter in ascii_letters if letter not in equation]
    ellipsis = "".join(others[: len(x.shape) - len(read) + 3])
    read, written = (term.replace("...", ellipsis) for term in (read, written))
    summed, new = set(read) - set(written), set(written) - set(read)
    fits = (
        len(summed) == len(new) == 1
        and len(constant) == 2
        and set(constant) == summed | new
        and sorted(written) == sorted((set(read) - summed) | new)
        and len(set(read)) == len(read)
        and read[0] == written[0]
        # Sizes of 1 are repeated.
        and all(weight.shape[constant.index(k)] == x.shape[read.index(k)] for k in summed)
    )
    return (read, constant, written) if fits else None


def _permuted(low: Lowering, x: Value, old: str, new: str) -> Value:
    """Write a permutation of the dimensions called `old`, a letter each, to `new`."""
    if old == new:
        return x
    dims = tuple(old.index(letter) for letter in new)
    return low.add("Permute", [x], {"dims": dims}, shape=tuple(x.shape[d] for d in dims))


@function_rule(torch.bmm, "bmm")
def _bmm(low: Lowering, a: Any, b: Any) -> NoReturn:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        raise Unsupported("with a constant it is a linear layer; write it as nn.Linear or a convolution")
    raise Unsupported(REMEDIES["product"])


@function_rule(F.scaled_dot_product_attention)
def _attention(low: Lowering, *args: Any, **kwargs: Any) -> NoReturn:
    raise Unsupported(REMEDIES["attention"])
