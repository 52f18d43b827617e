"""ANN -> stages: trace, normalise, fold, partition. Knows nothing of spikes."""

from snn_lightning.graph.ir import INPUT, Node, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.normalise import normalise, prepare

__all__ = ["INPUT", "Node", "Stage", "StageNetwork", "normalise", "prepare"]
