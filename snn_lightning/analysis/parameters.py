"""How much has to be stored of a calibrated SNN for another T (PC 5.6)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron

KINDS = ("thresholds", "biases", "potentials", "weights")


def parameter_bytes(snn: SpikingModel, uncalibrated: SpikingModel) -> dict[str, int]:
    """Return the bytes of the tensors that make the ANN's network the SNN of this T (PC 5.6).

    They are those of the tensors themselves: all thresholds; synapses that are not the ANN's any more;
    potentials and biases of neurons that don't follow from threshold, rounding and T; a readout's bias that
    isn't zero. An SNN of {0, 1} spikes has no thresholds, its synapses have them.

    Args:
        snn: calibrated.
        uncalibrated: of the same ANN, whose synapses are the ANN's.

    Returns:
        Bytes of "thresholds", "biases", "potentials" and "weights".

    Raises:
        SettingsError: the two are of different ANNs.

    Example:
        >>> from torch import nn
        >>> from snn_lightning import LCP, calibrate, convert
        >>> _ = torch.manual_seed(0)
        >>> ann, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.rand(8, 2)
        >>> snn = calibrate(ann, [x], LCP(timesteps=4), progress=False)
        >>> parameter_bytes(snn, convert(ann, x, timesteps=4))
        {'thresholds': 12, 'biases': 16, 'potentials': 0, 'weights': 0}
    """
    if snn.units.keys() != uncalibrated.units.keys() and not snn.unit_spikes:
        raise SettingsError("uncalibrated must be an SNN of the ANN that snn was made from, unchanged")
    found = dict.fromkeys(KINDS, 0)
    for kind, tensor in (*_synapses(snn, uncalibrated), *_units(snn)):
        found[kind] += tensor.nbytes
    return found


def _synapses(snn: SpikingModel, uncalibrated: SpikingModel) -> Iterator[tuple[str, Tensor]]:
    """Yield what isn't the ANN's."""
    before = uncalibrated.network.state_dict()
    for name, tensor in snn.network.state_dict().items():
        old = before.get(name)
        if old is None or old.shape != tensor.shape or not torch.equal(tensor, old.to(tensor)):
            yield "biases" if name.rpartition(".")[2] == "bias" else "weights", tensor


def _units(snn: SpikingModel) -> Iterator[tuple[str, Tensor]]:
    """Yield thresholds, and what doesn't follow from them."""
    for unit in snn.units.values():
        if not isinstance(unit, IFNeuron):
            bias = getattr(unit, "bias", None)
            if isinstance(bias, Tensor) and bias.any():
                yield "biases", bias
            continue
        if not snn.unit_spikes:
            yield "thresholds", unit.v_th
        following = copy.deepcopy(unit)
        following.set_threshold(unit.v_th, snn.conversion.rounding, snn.timesteps)
        for kind, name in (("biases", "bias"), ("potentials", "v_init")):
            tensor = getattr(unit, name)
            if not torch.equal(tensor, getattr(following, name)):
                yield kind, tensor
