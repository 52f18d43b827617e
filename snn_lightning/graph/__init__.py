"""ANN -> stages: trace, normalise, fold, partition. Knows nothing of spikes."""

from snn_lightning.graph.ir import INPUT, Node, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.normalise import normalise, prepare
from snn_lightning.graph.passes.pooling import Pooling

__all__ = ["INPUT", "Node", "Pooling", "Stage", "StageNetwork", "normalise", "prepare"]
