"""What an inference costs, of the SNN and of its ANN: operations, and their prices."""

from snn_lightning.analysis.energy.measure import measure_energy, operations
from snn_lightning.analysis.energy.model import EnergyModel, StageEnergy, prices
from snn_lightning.analysis.energy.report import EnergyReport
from snn_lightning.analysis.energy.spikes import counted, spikes_in

__all__ = [
    "EnergyModel",
    "EnergyReport",
    "StageEnergy",
    "counted",
    "measure_energy",
    "operations",
    "prices",
    "spikes_in",
]
