"""Neurons and other units in time, and the SpikingModel that runs them."""

from snn_lightning.spiking.checkpoint import (
    SpikingCheckpoint,
    load_converted,
    load_from_checkpoint,
    save_converted,
)
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.burst import BurstNeuron
from snn_lightning.spiking.neurons.config import IF, Burst, Neuron, Parallel, Signed, Switch, register_neuron
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.neurons.parallel import ParallelNeuron
from snn_lightning.spiking.neurons.signed import SignedNeuron
from snn_lightning.spiking.neurons.temporal_switch import SwitchNeuron
from snn_lightning.spiking.units import GatedMaxPool, Readout

__all__ = [
    "IF",
    "Burst",
    "BurstNeuron",
    "Conversion",
    "GatedMaxPool",
    "IFNeuron",
    "Neuron",
    "Parallel",
    "ParallelNeuron",
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
