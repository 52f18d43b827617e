"""Descriptions of networks as older versions wrote them."""

from typing import Any

from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.config import NEURONS


def older_spec(snn: SpikingModel, version: int = 3) -> dict[str, Any]:
    """What a network's `spec()` was in format 1, 2 or 3."""
    spec = {key: value for key, value in snn.spec().items() if key != "conversion"}
    said = {"timesteps": snn.timesteps, "neuron": NEURONS.describe(snn.neuron), "precision": snn.precision}
    later = ["precision", "neuron"][: 3 - version]
    return {**spec, "format": version, **{key: value for key, value in said.items() if key not in later}}
