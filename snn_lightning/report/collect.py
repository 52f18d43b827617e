"""What the page is about: numbers that the SNN, its ANN and images give, and those of a run."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.analysis.activity import Activity, measure_activity
from snn_lightning.analysis.energy import EnergyModel, EnergyReport, prices
from snn_lightning.analysis.firing import FiringReport
from snn_lightning.analysis.mismatch import MismatchReport, measure_mismatch, normalised
from snn_lightning.analysis.results import TITLES, Results, score_names
from snn_lightning.errors import SettingsError
from snn_lightning.report.ranking import Ranking, rank_sites
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.report import SpikingReport


@dataclass(frozen=True)
class Score:
    """One number that networks are compared by, and how it rises with time.

    Args:
        name: such as "map50".
        title: what people call it.
        ann, uncalibrated, snn: of the three networks; None where not known.
        times: the time steps at which it has been taken.
        over_time: the SNN's at those.
    """

    name: str
    title: str
    ann: float | None
    uncalibrated: float | None
    snn: float | None
    times: tuple[int, ...] = ()
    over_time: tuple[float, ...] = ()


@dataclass(frozen=True)
class Contents:
    """All that the page shows.

    Args:
        model: name of the network.
        report: how it was converted.
        conversion: the settings.
        records: of each stage, see `StageRecord`; empty where not known.
        results: of the run, as in `results.json`; empty where not known.
        activity, mismatch: measured; None where images or the ANN are missing.
        before: errors of the network that is not calibrated; None where that is missing too.
        ranking: what the errors of the sites do to the output; None as `mismatch`.
        contact_sheet: a PNG file of synthetic calibration images; None where there are none.
    """

    model: str
    report: SpikingReport
    conversion: Conversion
    records: tuple[Mapping[str, Any], ...]
    results: Mapping[str, Any]
    activity: Activity | None = None
    mismatch: MismatchReport | None = None
    before: MismatchReport | None = None
    ranking: Ranking | None = None
    contact_sheet: bytes | None = None

    @property
    def firing(self) -> FiringReport | None:
        """The firing rates, where they are measured."""
        return self.activity and self.activity.firing

    @property
    def energy(self) -> EnergyReport | None:
        """The energy, where it is measured and the ANN takes any."""
        return self.activity.energy if self.activity and self.activity.energy.ann_energy else None

    @property
    def scores(self) -> list[Score]:
        """The scores of the run."""
        return [self._score(name) for name in score_names(dict(self.results))]

    def _score(self, name: str) -> Score:
        # What is no finite number is null in a file.
        found = self.results.get(f"{name}_over_time") or ()
        over_time = tuple(math.nan if value is None else value for value in found)
        times = self.results.get("times") or range(1, len(over_time) + 1)
        ann, uncalibrated, snn = (
            self.results.get(f"{kind}_{name}") for kind in ("ann", "uncalibrated", "snn")
        )
        return Score(name, TITLES.get(name, name), ann, uncalibrated, snn, tuple(times), over_time)

    @property
    def errors(self) -> list[tuple[str, float | None, float]]:
        """Each stage's name and its error before and after the calibration, as far as they are measured."""
        if self.mismatch is None:
            return [(record["name"], None, record["error"]) for record in self.stage_records]
        before = {stage.name: stage.total for stage in self.before.stages} if self.before else {}
        return [(stage.name, before.get(stage.name), stage.total) for stage in self.mismatch.stages]

    @property
    def stage_records(self) -> list[Mapping[str, Any]]:
        """The records of stages, without those of steps on the whole network."""
        return [record for record in self.records if record["kind"] != "network"]


def collect(
    snn: SpikingModel,
    ann: nn.Module | None = None,
    before: SpikingModel | None = None,
    images: Tensor | None = None,
    results: Mapping[str, Any] | None = None,
    activity: Activity | None = None,
    energy: EnergyModel | None = None,
    contact_sheet: bytes | None = None,
) -> Contents:
    """Measure what the page shows; see `write_report` for the arguments and what is raised."""
    if not isinstance(snn, SpikingModel):
        raise SettingsError(
            f"The page is about one SpikingModel, got {type(snn).__name__}: pass the part that spikes, such "
            "as model.get_submodule('backbone.body')"
        )
    if before is not None and before.timesteps != snn.timesteps:
        raise SettingsError(
            f"before has T={before.timesteps} and snn T={snn.timesteps}: convert it with "
            f"timesteps={snn.timesteps}"
        )
    if images is not None and (not isinstance(images, Tensor) or len(images) == 0):
        raise SettingsError("images must be a tensor [N, ...] of what the spiking network receives, N > 0")
    results, model = known(results or {}), prices(energy)
    mismatch = earlier = ranking = network = None
    if images is not None:
        device = next((tensor.device for tensor in snn.state_dict().values()), images.device)
        images = images.to(device)
        with torch.inference_mode(False):
            if ann is not None:
                ann = _on(ann, device)
                network = normalised(ann, snn, images)
                mismatch = measure_mismatch(network, snn, images)
                earlier = None if before is None else measure_mismatch(network, before, images)
                ranking = rank_sites(ann, network, snn, images)
            activity = activity or measure_activity(snn, images, ann=network)
    if activity is not None and energy is not None:
        activity = activity._replace(energy=replace(activity.energy, model=model))
    return Contents(
        model=str(results.get("model", "Spiking network" if ann is None else type(ann).__name__)),
        report=snn.report,
        conversion=snn.conversion,
        records=tuple(snn.records or results.get("stages") or ()),
        results=results,
        activity=activity,
        mismatch=mismatch,
        before=earlier,
        ranking=ranking,
        contact_sheet=contact_sheet,
    )


def known(results: Mapping[str, Any]) -> Results:
    """Return the results of a run without those that are None.

    Raises:
        SettingsError: the scores are no list of names, or a score has other times.

    Example:
        >>> known({"seed": None, "snn_accuracy": 0.9})
        {'snn_accuracy': 0.9}
    """
    found = {key: value for key, value in results.items() if value is not None}
    names = score_names(found)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"results['scores'] must be a list of names such as ['accuracy'], got {names!r}")
    for name in names:
        over_time = found.get(f"{name}_over_time", [])
        if "times" in found and over_time and len(over_time) != len(found["times"]):
            raise SettingsError(
                f"results['times'] must be the time steps of results['{name}_over_time'], which has "
                f"{len(over_time)}, got {len(found['times'])}"
            )
    return found


def _on(ann: nn.Module, device: torch.device) -> nn.Module:
    """Return the ANN on `device`; a copy, where it is on another one."""
    there = {parameter.device for parameter in ann.parameters()}
    return ann if there <= {device} else copy.deepcopy(ann).to(device)
