"""The papers' figures of one run: their numbers as JSON, and the drawings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.analysis.channels import channel_errors
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.analysis.mismatch import counterpart
from snn_lightning.errors import CheckpointError, SettingsError, unknown
from snn_lightning.files import write_atomically
from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.report.figures.errors import plot_channel_errors, plot_threshold_errors
from snn_lightning.report.figures.files import save_figure
from snn_lightning.report.figures.rates import plot_firing_rates
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.thresholds.errors import ThresholdErrors, threshold_errors


@dataclass(frozen=True)
class Subject:
    """What figures are about.

    Args:
        ann: the network that was converted.
        snn: the spiking network.
        batches: of test images, `[n, ...]` on their device, at least one.
        label: what the SNN is called in a figure.
    """

    ann: nn.Module
    snn: SpikingModel
    batches: Iterable[Tensor]
    label: str


def save_run_figures(names: Sequence[str], subject: Subject, folder: str | Path) -> list[Path]:
    """Write figures and their numbers.

    Args:
        names: of `FIGURES`.
        subject: what they are about.
        folder: for `<name>.json`, `.png` and `.svg`; made where it is missing. There is a drawing
            for each site of `threshold_errors`, `threshold_errors_<site>.png`.

    Returns:
        The files.

    Raises:
        SettingsError: there is no figure of that name.

    Example:
        >>> from snn_lightning import convert
        >>> ann, images = nn.ReLU(), torch.tensor([[1.0, 0.5], [0.5, 0.5]])
        >>> subject = Subject(ann, convert(ann, images, timesteps=2), [images], "baseline")
        >>> [path.name for path in save_run_figures(["firing_rates"], subject, "figures")]
        ['firing_rates.json', 'firing_rates.png', 'firing_rates.svg']
    """
    check_figures(names)
    return [path for name in names for path in FIGURES[name](subject, Path(folder) / name)]


def check_figures(names: Any) -> None:
    """Refuse what is no list of figures.

    Raises:
        SettingsError: naming the one that there is not.

    Example:
        >>> check_figures(["firing_rates"])
    """
    if not isinstance(names, list | tuple):
        raise SettingsError(f"figures must be a list such as [firing_rates], got {names!r}")
    for name in names:
        if name not in FIGURES:
            raise SettingsError(unknown("figure", name, FIGURES))


def read_numbers(path: Path) -> dict[str, Any]:
    """Return the numbers of a figure of one run.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        numbers = json.loads(path.read_text())
        return {"label": str(numbers["label"]), "sites": dict(numbers["sites"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' hasn't the numbers of a figure ({error}): run its job with figures=[{path.stem}]"
        ) from error


def _channel_errors(subject: Subject, path: Path) -> list[Path]:
    errors = channel_errors(subject.ann, subject.snn, _of_one_size("channel_errors", subject))
    numbers = _write(path, subject, {site: values.tolist() for site, values in errors.items()})
    return [numbers, *save_figure(plot_channel_errors({subject.label: errors}), path)]


def _firing_rates(subject: Subject, path: Path) -> list[Path]:
    """Average the rates over all images, a batch at a time."""
    sums: dict[str, float] = {}
    images = 0
    for batch in subject.batches:
        for site, rate in measure_energy(subject.snn, batch).firing_rates.items():
            sums[site] = sums.get(site, 0.0) + len(batch) * rate
        images += len(batch)
    rates = {site: total / images for site, total in sums.items()}
    numbers = _write(path, subject, rates)
    return [numbers, *save_figure(plot_firing_rates({subject.label: rates}), path)]


def _threshold_errors(subject: Subject, path: Path) -> list[Path]:
    images = _of_one_size("threshold_errors", subject)
    steps = [2**power for power in range(1, subject.snn.timesteps.bit_length())] or [1]
    floor = subject.snn.conversion.rounding == "floor"
    network = counterpart(subject.ann, subject.snn, images)
    sites = _ThresholdErrors(network, images, steps, half_step=not floor).found
    chosen = {
        site: {"maximum": found.maximum, "percentile": found.percentile, "mmse": found.mmse}
        for site, found in sites.items()
    }
    files = [_write(path, subject, chosen)]
    for site, found in sites.items():
        files += save_figure(plot_threshold_errors(found), path.with_name(f"{path.name}_{site}"))
    return files


def _of_one_size(name: str, subject: Subject) -> Tensor:
    batches = list(subject.batches)
    if len({batch.shape[1:] for batch in batches}) > 1:
        raise SettingsError(
            f"figures=[{name}] looks at all images together, and the SNN gets them in several sizes: set "
            "data.batch_size to figure_images or more, so that they are padded to one, or leave it out"
        )
    return torch.cat(batches)


class _ThresholdErrors(ANNInterpreter):
    """Runs the ANN, and looks at the thresholds of each site on the way."""

    @torch.no_grad()
    def __init__(self, network: StageNetwork, images: Tensor, steps: list[int], half_step: bool) -> None:
        super().__init__(network, {INPUT: images})
        self.steps, self.half_step = steps, half_step
        self.found: dict[str, ThresholdErrors] = {}
        self.interpret()

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        x = super().unit(stage, current)
        if stage.kind == "neuron" and (x > 0).any():
            self.found[stage.name] = threshold_errors(x, self.steps, half_step=self.half_step)
        return x


def _write(path: Path, subject: Subject, sites: dict[str, Any]) -> Path:
    file = path.with_name(f"{path.name}.json")
    numbers = {"label": subject.label, "timesteps": subject.snn.timesteps, "sites": sites}
    write_atomically(file, (json.dumps(numbers, indent=2) + "\n").encode())
    return file


FIGURES: dict[str, Callable[[Subject, Path], list[Path]]] = {
    "channel_errors": _channel_errors,
    "firing_rates": _firing_rates,
    "threshold_errors": _threshold_errors,
}
"""PC Fig. 2 and 5, Fig. 6, and Fig. 4."""
