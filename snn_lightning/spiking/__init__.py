"""Neurons and other units in time, and the SpikingModel that runs them."""

from snn_lightning.spiking.checkpoint import SpikingCheckpoint, load_converted, save_converted
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neuron import GatedMaxPool, IFNeuron, Readout

__all__ = [
    "GatedMaxPool",
    "IFNeuron",
    "Readout",
    "SpikingCheckpoint",
    "SpikingModel",
    "load_converted",
    "save_converted",
]
