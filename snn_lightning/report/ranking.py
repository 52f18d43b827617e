"""Which sites matter for the output: measured with few images, for the page."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from snn_lightning.analysis.sensitivity import SensitivityReport, analog_setting, sensitivity
from snn_lightning.errors import SNNLightningError
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.model import SpikingModel

IMAGES, PROBES = 8, 16
"""Few: the images are simulated, and each probe costs a backward pass of the ANN for each of them."""

ANALOG = 3
"""So many sites at most the setting leaves analog, and no more than a quarter of them."""


@dataclass(frozen=True)
class Ranking:
    """The sites by what their errors do to the output.

    Args:
        report: the numbers; None where they can't be had.
        setting: leaves the worst sites analog, YAML; empty where there is but one.
        problem: why there are none.
    """

    report: SensitivityReport | None = None
    setting: str = ""
    problem: str = ""


def rank_sites(ann: nn.Module, network: StageNetwork, snn: SpikingModel, images: Tensor) -> Ranking:
    """Return the ranking on the first of `images`, or why there is none.

    Args:
        ann: the network that was converted, whose modules have names.
        network: the same, normalised.
        snn: the spiking network.
        images: `[N, ...]` on their device.
    """
    try:
        report = sensitivity(network, snn, images[:IMAGES], probes=PROBES)
        count = min(ANALOG, -(-len(report.rows) // 4))
        # The only site of a network has to spike.
        setting = "" if len(report.rows) == 1 else analog_setting(ann, snn, report.worst(count))
        return Ranking(report, setting)
    except SNNLightningError as error:
        return Ranking(problem=str(error))
