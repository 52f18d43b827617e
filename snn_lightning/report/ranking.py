"""Which sites matter for the output: measured with few images, for the page."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from snn_lightning.analysis.sensitivity import SensitivityReport, analog_setting, sensitivity
from snn_lightning.errors import SNNLightningError
from snn_lightning.spiking.model import SpikingModel

IMAGES, PROBES = 8, 16
"""Few: the images are simulated, and each probe costs a backward pass of the ANN for each of them."""

ANALOG = 3
"""How many sites the setting leaves analog."""


@dataclass(frozen=True)
class Ranking:
    """The sites by what their errors do to the output.

    Args:
        report: the numbers; None where they can't be had.
        setting: leaves the worst sites analog, YAML.
        problem: why there are none.
    """

    report: SensitivityReport | None = None
    setting: str = ""
    problem: str = ""


def rank_sites(ann: nn.Module, snn: SpikingModel, images: Tensor) -> Ranking:
    """Return the ranking on the first of `images`, or why there is none."""
    try:
        report = sensitivity(ann, snn, images[:IMAGES], probes=PROBES)
        return Ranking(report, analog_setting(ann, snn, report.worst(ANALOG)))
    except SNNLightningError as error:
        return Ranking(problem=str(error))
