"""The operators that a network is normalised to, each with its traits."""

from snn_lightning.graph.operators.modules import (
    Activation,
    Add,
    Affine,
    Elementwise,
    Mean,
    PositionwiseLinear,
    Scale,
    Sum,
)
from snn_lightning.graph.operators.table import (
    OPERATORS,
    build,
    known_class,
    register_operator,
    settings_of,
    traits_named,
    traits_of,
)
from snn_lightning.graph.operators.torch_modules import CONVOLUTIONS, MODULES, TRANSPOSED, groups_of
from snn_lightning.graph.operators.traits import Traits

__all__ = [
    "CONVOLUTIONS",
    "MODULES",
    "OPERATORS",
    "TRANSPOSED",
    "Activation",
    "Add",
    "Affine",
    "Elementwise",
    "Mean",
    "PositionwiseLinear",
    "Scale",
    "Sum",
    "Traits",
    "build",
    "groups_of",
    "known_class",
    "register_operator",
    "settings_of",
    "traits_named",
    "traits_of",
]
