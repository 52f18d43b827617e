"""What tests of the cost model share."""

from torch import Tensor, nn

from snn_lightning.analysis.cost.operations import CostEstimate, estimate_cost
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.graph import StageNetwork, normalise, prepare
from tests.toys import INPUT_SHAPES, inputs, toy


def network_of(ann: nn.Module, x: Tensor) -> StageNetwork:
    return prepare(normalise(ann, x), x)


def cost_of(cls: type[nn.Module], work: Work) -> CostEstimate:
    return estimate_cost(network_of(toy(cls), inputs(cls)), INPUT_SHAPES[cls], work)
