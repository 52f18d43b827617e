"""ANN -> stages: trace, normalise, fold, partition. Knows nothing of spikes."""

from snn_lightning.graph.build import normalise, prepare
from snn_lightning.graph.network import INPUT, Node, Stage, StageNetwork

__all__ = ["INPUT", "Node", "Stage", "StageNetwork", "normalise", "prepare"]
