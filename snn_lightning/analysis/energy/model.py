"""What is counted of a stage, and what each of it costs."""

from __future__ import annotations

from dataclasses import dataclass, fields

from snn_lightning.errors import SettingsError
from snn_lightning.settings import is_number


@dataclass(frozen=True)
class StageEnergy:
    """Operations of a stage, all of one image.

    Args:
        name: of the unit.
        kind: "neuron", "gate" or "readout".
        neurons: positions of the site; 0 at gates and readouts.
        spikes: that its neurons emit in T time steps, negative ones too.
        accumulates: additions in its synapses, one for each spike and synapse it reaches.
        multiplications: multiply-accumulates in synapses that receive numbers and not spikes: once where they
            are static, at each of T steps where they are temporal.
        ann: multiply-accumulates of the ANN.
        nonzero: those of them whose input is not zero; of analog operators all.
        active: activations of the site that are not zero in the ANN.
        analog: those of `ann` in analog operators, which the SNN does as well, once.
    """

    name: str
    kind: str
    neurons: int
    spikes: float
    accumulates: float
    multiplications: float
    ann: float
    nonzero: float
    active: float
    analog: float = 0.0


@dataclass(frozen=True)
class EnergyModel:
    """Prices, by which the SNN stands beside the dense ANN and beside an ANN that skips zeros.

    The default is float32 in 45 nm (Horowitz, "Computing's energy problem", ISSCC 2014; PC 5.5), without
    memory. What the same thing costs is the same in all three networks:

    - `mac`: in the SNN, each number that is no spike, at each synapse; in the dense ANN every input of a
      synapse; in the one that skips zeros every input but 0.
    - `ac`: each spike, at each synapse it reaches.
    - `weight`: each of these operations.
    - `spike`: each spike that a neuron emits; in the dense ANN each activation of a site, in the one that
      skips zeros each but 0.

    So `spike` is for what leaves a neuron: written, routed and read, whether it is one bit or a number; a
    burst of n spikes pays n times. What no neuron emits (the image, analog operators, readouts) pays none of
    it. A weight is read anew for every operation: no network is credited with keeping one at hand.

    Args:
        mac: pJ of a multiply-accumulate.
        ac: pJ of an accumulate.
        spike: pJ of memory and routing, for each spike or activation.
        weight: pJ of memory, for each weight that an operation reads.

    Raises:
        SettingsError: a price is no number of at least 0, or `mac` is 0.

    Example:
        >>> print(EnergyModel(), EnergyModel(mac=0.23, ac=0.03, weight=1.25), sep="; ")
        0.9 pJ an accumulate, 4.6 pJ a MAC; 0.03 pJ an accumulate, 0.23 pJ a MAC, 1.25 pJ a weight
    """

    mac: float = 4.6
    ac: float = 0.9
    spike: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if not is_number(value) or value < 0:
                raise SettingsError(f"energy.{name} must be a number of pJ of at least 0, got {value!r}")
        if self.mac == 0:
            raise SettingsError("energy.mac must be more than 0 pJ: the ANN would cost nothing")

    def snn(self, stage: StageEnergy) -> float:
        """Return what a stage costs in the SNN, pJ."""
        accumulates = (self.ac + self.weight) * stage.accumulates
        return accumulates + self._macs(stage.multiplications) + self.spike * stage.spikes

    def ann(self, stage: StageEnergy) -> float:
        """Return what a stage costs in the dense ANN, pJ."""
        return self._macs(stage.ann) + self.spike * stage.neurons

    def skipping(self, stage: StageEnergy) -> float:
        """Return what a stage costs in an ANN that skips zeros, pJ."""
        return self._macs(stage.nonzero) + self.spike * stage.active

    def _macs(self, macs: float) -> float:
        return (self.mac + self.weight) * macs

    def __str__(self) -> str:
        memory = {"a spike or activation": self.spike, "a weight": self.weight}
        paid = [f"{price:g} pJ {what}" for what, price in memory.items() if price]
        return ", ".join([f"{self.ac:g} pJ an accumulate", f"{self.mac:g} pJ a MAC", *paid])


def prices(model: EnergyModel | None) -> EnergyModel:
    """Return the prices that are given, the default ones for None.

    Raises:
        SettingsError: they are no `EnergyModel`.

    Example:
        >>> prices(None).mac
        4.6
    """
    if model is None:
        return EnergyModel()
    if not isinstance(model, EnergyModel):
        raise SettingsError(f"energy must be an EnergyModel such as EnergyModel(mac=1.5), got {model!r}")
    return model
