"""`report.html`: one page about one spiking network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor, nn

from snn_lightning.analysis.activity import Activity
from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.files import write_atomically
from snn_lightning.report.collect import Contents, collect
from snn_lightning.report.findings import findings
from snn_lightning.report.images import described, read_sheet
from snn_lightning.report.parts import Section
from snn_lightning.report.sections import sections, stats
from snn_lightning.spiking.model import SpikingModel

PAGE = "report.html"


def write_report(
    snn: SpikingModel,
    folder: str | Path,
    *,
    ann: nn.Module | None = None,
    before: SpikingModel | None = None,
    images: Tensor | None = None,
    results: Mapping[str, Any] | None = None,
    activity: Activity | None = None,
    energy: EnergyModel | None = None,
    contact_sheet: str | Path | None = None,
    png: bool = False,
) -> Path:
    """Write `report.html`, a page about a spiking network, and the numbers of its charts, `report/*.csv`.

    The page is one file that opens offline. What can't be known from the arguments is left out of it, and a
    sentence there says why.

    Args:
        snn: the spiking network, in eval mode; the part that spikes where it is one of a model.
        folder: where to write.
        ann: the network that it was made from, for where the error comes from and which sites matter.
        before: an SNN of the same ANN that is not calibrated, `convert(ann, sample, timesteps)`; its errors
            stand beside those of `snn`.
        images: a few tens of inputs `[N, ...]` of the spiking network, for firing rates and energy.
        results: of a run, as in `results.json`: accuracies, seconds, settings, command.
        activity: firing rates and energy, where they have been measured already.
        energy: the prices; those of `activity`, or else `EnergyModel()`, by default.
        contact_sheet: a PNG file with images that were made from the ANN to calibrate on.
        png: write the charts as images too, `report/*.png`: `log_report` gives them to loggers.

    Returns:
        The path of the page.

    Raises:
        SettingsError: `snn` is no SpikingModel, `images` no images, `ann` or `before` of another network, or
            there is no contact sheet.
        CheckpointError: the folder can't be written.

    Example:
        >>> import torch
        >>> from snn_lightning import LCP, calibrate
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> images = torch.rand(128, 2)
        >>> snn = calibrate(ann, [images], LCP(timesteps=4), progress=False)
        >>> write_report(snn, "run", ann=ann, images=images[:32]).name
        'report.html'
        >>> len(list(Path("run/report").glob("*.csv")))
        8
    """
    sheet, folder = read_sheet(contact_sheet), Path(folder)
    contents = collect(snn, ann, before, images, results, activity, energy, sheet)
    warnings = findings(contents)
    parts = sections(contents, warnings)
    return write_page(folder / PAGE, parts, warnings, stats=stats(contents), png=png, **_head(contents))


def write_page(
    path: Path,
    sections: Sequence[Section],
    warnings: Sequence[str],
    *,
    title: str,
    heading: str,
    line: str,
    stats: Sequence[tuple[str, str]] = (),
    png: bool = False,
) -> Path:
    """Write a page, and the numbers of its charts to the folder of the same name.

    Files of charts that an earlier page at the same place has left, and this one doesn't have, are deleted.

    Args:
        path: of the page.
        sections: what it shows, among them "warnings".
        warnings: sentences; the head of the page says how many there are.
        title: of the browser's window.
        heading: of the page.
        line: below the heading.
        stats: the numbers of the head, each with what it is.
        png: write the charts to that folder as well.

    Returns:
        The path.

    Raises:
        CheckpointError: the folder can't be written.
    """
    folder = path.with_suffix("")
    earlier = _linked(path, folder.name)
    drawn = [chart for section in sections for chart in section.charts]
    written = {f"{chart.name}.csv": chart.data.csv.encode() for chart in drawn}
    if png:
        written |= {f"{chart.name}.png": chart.svg.png() for chart in drawn}
    for name, content in written.items():
        write_atomically(folder / name, content)
    head = {"title": title, "heading": heading, "line": line, "stats": stats, "warnings": warnings}
    page = _environment().get_template("page.html.j2")
    write_atomically(path, page.render(**head, sections=sections, folder=folder.name).encode())
    for name in earlier - written.keys():
        with suppress(OSError):
            (folder / name).unlink()
    return path


def _linked(path: Path, folder: str) -> set[str]:
    """Return the files that an earlier page at `path` has written for its charts; none of someone else."""
    try:
        names = re.findall(rf'href="{re.escape(folder)}/(\w[\w.-]*)\.csv"', path.read_text())
    except (OSError, ValueError):
        return set()
    return {f"{name}.{kind}" for name in names for kind in ("csv", "png")}


def _head(contents: Contents) -> dict[str, str]:
    results, report = contents.results, contents.report
    data = f" on {results['data']}" if results.get("data") else ""
    pipeline = f"pipeline {results['pipeline']}, " if results.get("pipeline") else ""
    return {
        "title": f"{contents.model}{data}, T={report.timesteps}",
        "heading": f"{contents.model}{data}",
        "line": f"{pipeline}T={report.timesteps}, {report.sites} sites are {report.neuron} neurons, "
        f"{report.status}{f' with {source}' if (source := described(results)) else ''}",
    }


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("snn_lightning.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
