"""The sections about what is measured: errors, firing rates and energy of the stages."""

from __future__ import annotations

from typing import Any

from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.analysis.format import si
from snn_lightning.analysis.mismatch import PARTS
from snn_lightning.analysis.results import percent
from snn_lightning.report import charts
from snn_lightning.report.collect import Contents
from snn_lightning.report.parts import Chart, Section, Table, number, whole

SHOWN = 10
"""Sites in the chart of those that matter most."""

NO_RECORDS = (
    "Not known here: the program that calibrates an SNN knows what each step did, and checkpoints don't keep "
    "it. Call write_report there, or pass results with the 'stages' of results.json."
)
NO_IMAGES = "Not measured: it takes images, write_report(snn, folder, images=images)."
NO_ANN = "Not measured: it takes the ANN and images, write_report(snn, folder, ann=ann, images=images)."


def errors(contents: Contents) -> Section:
    """Show the errors of the stages before and after the calibration."""
    title, found = "Error of every site before and after calibration", contents.errors
    if not found:
        return Section("errors", title, [NO_RECORDS])
    data = Table({"stage": str, "before": number, "after": number}, found)
    svg = charts.dumbbells(
        "errors",
        f"Relative error of {len(found)} stages before and after their calibration",
        "‖x − rate‖² / ‖x‖²",
        data.column("stage"),
        {"before": data.column("before"), "after": data.column("after")},
    )
    images = f"{contents.mismatch.images} images" if contents.mismatch else "the calibration images"
    texts = [
        f"The squared error of the rate relative to the ANN's activation, on {images}. Before: in the "
        "network as it was converted. After: in the finished one."
    ]
    if contents.before is None:
        texts.append("Before is not known here: write_report(..., before=convert(ann, sample, timesteps)).")
    for record in contents.records:
        if record["kind"] == "network":
            numbers = record["steps"][record["name"]]
            texts.append(
                f"The step {record['name']} on the whole network has brought the error of its outputs on the "
                f"calibration images from {number(numbers['before'])} to {number(record['error'])}."
            )
    return Section("errors", title, texts, [Chart("errors", "Relative error, before and after.", svg, data)])


def mismatch(contents: Contents) -> Section:
    """Show the errors of the stages by their reasons."""
    title, report = "Where the error comes from", contents.mismatch
    if report is None:
        return Section("mismatch", title, [NO_ANN])
    data = Table(
        {"stage": str, **dict.fromkeys(PARTS, number), "total": number},
        [(s.name, *s.shares, s.total) for s in report.stages],
    )
    svg = charts.stacked(
        "mismatch",
        f"Relative error of {len(report.stages)} stages, split into {', '.join(PARTS)}",
        "share of ‖x − rate‖² / ‖x‖²",
        data.column("stage"),
        {part: data.column(part) for part in PARTS},
    )
    texts = [
        f"The error of the finished SNN on {report.images} images. Clipping: more than a spike at every step "
        "could tell. Quantisation: whole numbers of spikes. Input: what earlier stages deliver. Unevenness: "
        "spikes that come too early or too late. Shares add up to the total; a negative one makes up for "
        "others."
    ]
    return Section("mismatch", title, texts, [Chart("mismatch", "Shares of the error.", svg, data)])


def sites(contents: Contents) -> Section:
    """Show the worst sites, and the setting that leaves them analog."""
    title, ranking = "Which sites matter", contents.ranking
    if ranking is None or ranking.report is None:
        return Section("sites", title, [NO_ANN if ranking is None else f"Not measured: {ranking.problem}"])
    report, shown = ranking.report, ranking.report.rows[:SHOWN]
    data = Table(
        {"site": str, "output error": number, "site error": number},
        [(row.name, row.predicted, row.error) for row in shown],
    )
    svg = charts.bars(
        "sites",
        f"What the errors of the {len(shown)} worst of {len(report.rows)} sites do to the output",
        "squared error of the output, over ‖y‖²",
        data.column("site"),
        {"predicted": data.column("output error")},
    )
    texts = [
        "The squared error that each site's error alone would make at the output, predicted from the ANN's "
        f"gradients on {report.images} image{'s' * (report.images > 1)}; the {len(shown)} worst of "
        f"{len(report.rows)} sites. The output's whole error is {number(report.output_error)}; effects of "
        "single sites don't add up.",
        "The error of earlier sites is in it, so that the last sites tend to lead: before you leave one "
        "analog, simulate its own effect with measured_effect(ann, snn, images, local=True).",
    ]
    if ranking.setting:
        texts.append("This setting would leave the worst analog:")
    return Section(
        "sites", title, texts, [Chart("sites", "Predicted effects.", svg, data)], code=ranking.setting
    )


def firing(contents: Contents) -> Section:
    """Show the firing rates of the sites."""
    title, report = "Firing rates", contents.firing
    if report is None:
        return Section("firing", title, [NO_IMAGES])
    columns: dict[str, Any] = {"site": str, "least": number, "rate": number, "most": number}
    data = Table(
        {**columns, "channels": whole, "silent": whole, "saturated": whole},
        [
            (s.name, min(s.channels), s.rate, max(s.channels), len(s.channels), s.silent, s.saturated)
            for s in report.sites
        ],
    )
    svg = charts.ranges(
        "firing",
        f"Firing rates of {len(report.sites)} sites: mean, and the channels that fire least and most",
        "spikes a neuron and time step",
        data.column("site"),
        [(least, rate, most) for _, least, rate, most, *_ in data.rows],
    )
    texts = [
        f"On {report.images} images. The dot is the mean; the line reaches from the channel that fires least "
        "to the one that fires most."
    ]
    return Section(
        "firing", title, texts, [Chart("firing_rates", "Spikes a neuron and time step.", svg, data)]
    )


def energy(contents: Contents) -> Section:
    """Show the energy of the stages: the SNN's, the dense ANN's, and that of an ANN that skips zeros."""
    title, report = "Energy by stage", contents.energy
    if report is None:
        return Section("energy", title, [NO_IMAGES])
    model, stages = report.model, report.stages
    unit, scale = ("µJ", 1e-6) if max(map(model.ann, stages)) >= 1e5 else ("nJ", 1e-3)
    networks = {"SNN": model.snn, "ANN": model.ann, "zero-skipping ANN": model.skipping}
    energies = {key: [scale * price(stage) for stage in stages] for key, price in networks.items()}
    columns = {f"{key}, {unit}": number for key in networks}
    counted = {"spikes": si, "additions": si, "multiply-adds": si}
    data = Table(
        {"stage": str, **columns, **counted},
        [
            (s.name, *costs, s.spikes, s.accumulates, s.multiplications)
            for s, *costs in zip(stages, *energies.values(), strict=True)
        ],
    )
    svg = charts.bars(
        "energy",
        f"Estimated energy of {len(stages)} stages of the SNN beside the ANN's, with and without zeros",
        f"energy of one image, {unit}",
        data.column("stage"),
        energies,
    )
    skipping, beside = report.skipping_ratio, ""
    if skipping is not None:
        beside = (
            f" An ANN that skips what is multiplied by zero, of the image too, takes "
            f"{number(scale * report.skipping_energy)} {unit}; the SNN {percent(skipping)} of that."
        )
    texts = [
        f"One image takes {number(scale * report.energy)} {unit} in the SNN, {percent(report.ratio)} of the "
        f"ANN's {number(scale * report.ann_energy)} {unit}; a mean over {report.images} images.{beside}",
        f"Prices: {model}. {_free(model)}",
    ]
    return Section("energy", title, texts, [Chart("energy", "Energy of one image.", svg, data)])


def _free(model: EnergyModel) -> str:
    """Say what costs nothing."""
    free = {"memory of spikes": model.spike, "memory of weights": model.weight}
    unpaid = ["neurons", *(what for what, price in free.items() if not price)]
    return f"Not counted: {', '.join(unpaid)}."
