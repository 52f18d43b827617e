"""How each torch module, function and tensor method is written in the package's vocabulary."""

from snn_lightning.graph.capture.rules import (
    activations,
    arithmetic,
    comparisons,
    identity,
    leaky_relu,
    matmul,
    padding,
    shapes,
    synapses,
    vision,
)
from snn_lightning.graph.capture.rules.synapses import BATCH_NORM

__all__ = [
    "BATCH_NORM",
    "activations",
    "arithmetic",
    "comparisons",
    "identity",
    "leaky_relu",
    "matmul",
    "padding",
    "shapes",
    "synapses",
    "vision",
]
