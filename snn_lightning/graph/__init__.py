"""ANN -> stages: trace, normalise, fold, partition. Knows nothing of spikes."""

from snn_lightning.graph.ir import INPUT, Node, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.normalise import normalise, prepare
from snn_lightning.graph.settings import GraphSettings

__all__ = ["INPUT", "GraphSettings", "Node", "Stage", "StageNetwork", "normalise", "prepare"]
