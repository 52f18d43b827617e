"""Neurons and other units in time, and the SpikingModel that runs them."""

from snn_lightning.spiking.checkpoint import (
    SpikingCheckpoint,
    load_converted,
    load_from_checkpoint,
    save_converted,
)
from snn_lightning.spiking.graded import BurstNeuron, SignedNeuron, SwitchNeuron
from snn_lightning.spiking.kinds import IF, Burst, Neuron, Signed, Switch, register_neuron
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neuron import GatedMaxPool, IFNeuron, Readout

__all__ = [
    "IF",
    "Burst",
    "BurstNeuron",
    "GatedMaxPool",
    "IFNeuron",
    "Neuron",
    "Readout",
    "Signed",
    "SignedNeuron",
    "SpikingCheckpoint",
    "SpikingModel",
    "Switch",
    "SwitchNeuron",
    "load_converted",
    "load_from_checkpoint",
    "register_neuron",
    "save_converted",
]
