"""The sections of the page, in their order."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from snn_lightning.analysis.energy import AC, MAC
from snn_lightning.analysis.mismatch import PARTS
from snn_lightning.analysis.results import percent
from snn_lightning.report import charts
from snn_lightning.report.collect import Contents, Score
from snn_lightning.report.findings import before
from snn_lightning.report.parts import Chart, Section, Table, number, whole

NO_RECORDS = (
    "Not known here. The program that calibrates an SNN knows what each step did, and checkpoints don't keep it: "
    "write_report after calibrate, or pass results with the 'stages' of results.json."
)
NO_IMAGES = "Not measured: it takes images, write_report(snn, folder, images=images)."
NO_ANN = "Not measured: it takes the ANN and images, write_report(snn, folder, ann=ann, images=images)."
NO_RESULTS = "Not known here: pass the results of a run, write_report(snn, folder, results=results)."

LIBRARIES = ("torch", "torchvision", "lightning", "numpy", "matplotlib")


def sections(contents: Contents, warnings: list[str]) -> list[Section]:
    """Return the sections of the page."""
    return [
        _over_time(contents),
        _network(contents),
        _errors(contents),
        _mismatch(contents),
        _firing(contents),
        _energy(contents),
        _losses(contents),
        _seconds(contents),
        Section("warnings", "Warnings", [] if warnings else ["None."], items=warnings),
        _repeat(contents),
    ]


def stats(contents: Contents) -> list[tuple[str, str]]:
    """Return the numbers of the head line, each with what it is."""
    found: list[tuple[str, str]] = []
    calibrated = "calibrated SNN" if contents.report.status == "calibrated" else "SNN"
    for score in contents.scores:
        values = (("ANN", score.ann), ("uncalibrated SNN", score.uncalibrated), (calibrated, score.snn))
        found += [(f"{score.name}, {of}", percent(value)) for of, value in values if value is not None]
    ratio = contents.energy.ratio if contents.energy else contents.results.get("energy_ratio")
    if ratio is not None:
        found.append(("energy, of the ANN's", percent(ratio)))
    return found


def _over_time(contents: Contents) -> Section:
    title = (
        "Accuracy against time"
        if [s.name for s in contents.scores] == ["accuracy"]
        else "Scores against time"
    )
    known = [score for score in contents.scores if score.over_time]
    texts = [text for score in known for text in _reached(score)] if known else [NO_RESULTS]
    return Section("time", title, texts, [_over_time_chart(score) for score in known])


def _reached(score: Score) -> Iterator[str]:
    """Say from when on the SNN is near the ANN."""
    if score.ann is None:
        return
    near = [value >= score.ann - 0.01 for value in score.over_time]
    if not near[-1]:
        lost = 100 * (score.ann - score.over_time[-1])
        yield f"After all {score.times[-1]} time steps the SNN's {score.name} is {lost:.2f} points below the ANN's."
    else:
        last_far = max((i for i, is_near in enumerate(near) if not is_near), default=-1)
        yield f"From t={score.times[last_far + 1]} on the SNN's {score.name} is within a point of the ANN's."


def _over_time_chart(score: Score) -> Chart:
    count, last = len(score.times), score.times[-1]
    uncalibrated = [None] * (count - 1) + [score.uncalibrated]
    data = Table(
        {"t": whole, "SNN": percent, "ANN": percent, "uncalibrated SNN": percent},
        list(zip(score.times, score.over_time, [score.ann] * count, uncalibrated, strict=True)),
    )
    svg = charts.lines(
        f"{score.name}-over-time",
        f"{score.name} of the SNN after each of {last} time steps: {percent(score.over_time[0])} after "
        f"t={score.times[0]}, {percent(score.over_time[-1])} after t={last}",
        ("time step t", f"{score.name}, %"),
        score.times,
        {"SNN": [100 * value for value in score.over_time]},
        {} if score.ann is None else {"ANN": 100 * score.ann},
        {} if score.uncalibrated is None else {"uncalibrated SNN": (last, 100 * score.uncalibrated)},
    )
    return Chart(
        f"{score.name}_over_time", f"The mean readout of the first t steps: its {score.name}.", svg, data
    )


def _network(contents: Contents) -> Section:
    report = contents.report
    shapes, thresholds = report.shapes, report.thresholds
    table = Table(
        {
            "stage": str,
            "what": str,
            "module": str,
            "neurons": whole,
            "shape": str,
            "cap": number,
            "operators": str,
        },
        [
            (
                name,
                {"neuron": "spikes", "analog": "analog"}.get(kind, kind),
                path or None,
                report.neurons.get(name),
                " × ".join(map(str, shapes[name])) if name in shapes else None,
                report.caps.get(name),
                ", ".join(operators) or None,
            )
            for name, kind, path, operators in report.stages
        ],
    )
    data = Table(
        {"site": str, "smallest": number, "median": number, "largest": number},
        [(name, *spread) for name, spread in thresholds.items()],
    )
    svg = charts.ranges(
        "thresholds",
        f"Firing thresholds of {len(thresholds)} sites: smallest, median and largest channel",
        "threshold, activation units",
        list(thresholds),
        list(thresholds.values()),
        log=True,
    )
    chart = Chart("thresholds", "Firing thresholds: smallest, median and largest channel.", svg, data)
    texts = [f"{report.summary}.", *(f"{line}." for line in report.footer())]
    if contents.energy is not None and contents.energy.analog:
        texts.append(f"{100 * contents.energy.analog:.3g} % of the ANN's multiply-accumulates stay analog.")
    return Section(
        "network", "The network as it was converted", texts, [chart] if thresholds else [], {"Stages": table}
    )


def _errors(contents: Contents) -> Section:
    title, records = "Error of every site before and after calibration", contents.stage_records
    if not records:
        return Section("errors", title, [NO_RECORDS])
    data = Table(
        {"stage": str, "module": str, "before": number, "after": number},
        [(r["name"], r["path"] or None, before(r), r["error"]) for r in records],
    )
    svg = charts.dumbbells(
        "errors",
        f"Relative error of {len(records)} stages before and after their calibration",
        "‖x − rate‖² / ‖x‖²",
        data.column("stage"),
        {"before": data.column("before"), "after": data.column("after")},
    )
    texts = [
        "The squared error of the rate relative to the ANN's activation, on the calibration images. Before: with the "
        "chosen threshold and all earlier stages calibrated. After: with all steps of the stage done. What is before "
        "is not known where no step has measured it."
    ]
    for record in contents.records:
        if record["kind"] == "network":
            texts.append(
                f"Then {record['name']} on the whole network: error of its outputs from {number(before(record) or 0)} "
                f"to {number(record['error'])}. It changes what the sites fire once more."
            )
    return Section("errors", title, texts, [Chart("errors", "Relative error, before and after.", svg, data)])


def _mismatch(contents: Contents) -> Section:
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
        f"The error of the finished SNN on {report.images} images. Clipping: more than a spike at every step could "
        "tell. Quantisation: whole numbers of spikes. Input: what earlier stages deliver. Unevenness: spikes that come "
        "too early or too late. Shares add up to the total; a negative one makes up for others."
    ]
    return Section("mismatch", title, texts, [Chart("mismatch", "Shares of the error.", svg, data)])


def _firing(contents: Contents) -> Section:
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
        f"Spikes a neuron and time step at {len(report.sites)} sites: mean, and the channels that fire least and most",
        "spikes a neuron and time step",
        data.column("site"),
        [(least, rate, most) for _, least, rate, most, *_ in data.rows],
    )
    texts = [
        f"On {report.images} images. The dot is the mean; the line reaches from the channel that fires least to "
        "the one that fires most."
    ]
    return Section(
        "firing", title, texts, [Chart("firing_rates", "Spikes a neuron and time step.", svg, data)]
    )


def _energy(contents: Contents) -> Section:
    title, report = "Energy by stage", contents.energy
    if report is None:
        return Section("energy", title, [NO_IMAGES])
    unit, scale = ("µJ", 1e-6) if max(s.ann_energy for s in report.stages) >= 1e5 else ("nJ", 1e-3)
    data = Table(
        {
            "stage": str,
            f"SNN, {unit}": number,
            f"ANN, {unit}": number,
            "spikes": number,
            "additions": number,
            "multiply-adds": number,
        },
        [
            (s.name, scale * s.energy, scale * s.ann_energy, s.spikes, s.accumulates, s.multiplications)
            for s in report.stages
        ],
    )
    svg = charts.bars(
        "energy",
        f"Estimated energy of {len(report.stages)} stages of the SNN beside the ANN's",
        f"energy of one image, {unit}",
        data.column("stage"),
        {"SNN": data.column(f"SNN, {unit}"), "ANN": data.column(f"ANN, {unit}")},
    )
    texts = [
        f"One image takes {number(scale * report.energy)} {unit} in the SNN, {percent(report.ratio)} of the ANN's "
        f"{number(scale * report.ann_energy)} {unit}: {AC} pJ an addition, {MAC} pJ a multiply-add; a mean over "
        f"{report.images} images. Neurons and memory are not counted."
    ]
    return Section("energy", title, texts, [Chart("energy", "Energy of one image.", svg, data)])


def _losses(contents: Contents) -> Section:
    title, found = "Loss curves", []
    for record in contents.records:
        for step, numbers in record["steps"].items():
            if curve := _curve(numbers):
                found.append((record, step, curve))
    if not found:
        text = "No step was trained by gradient descent." if contents.records else NO_RECORDS
        return Section("losses", title, [text])
    stages = [(record["name"], step, curve) for record, step, curve in found if record["kind"] != "network"]
    drawn = [_stage_losses(stages)] if stages else []
    drawn += [_network_losses(step, curve) for record, step, curve in found if record["kind"] == "network"]
    return Section("losses", title, ["The loss of mini-batches, now and then."], drawn)


def _curve(numbers: Mapping[str, float]) -> list[tuple[int, float]]:
    return [(int(key[5:]), value) for key, value in numbers.items() if key.startswith("loss_")]


def _stage_losses(stages: list[tuple[str, str, list[tuple[int, float]]]]) -> Chart:
    several = len({name for name, _, _ in stages}) < len(stages)
    data = Table(
        {"stage": str, "step": str, "iteration": whole, "loss": number},
        [(name, step, iteration, loss) for name, step, curve in stages for iteration, loss in curve],
    )
    svg = charts.sparklines(
        "weight-losses",
        f"Loss of the weight calibration in {len(stages)} stages, relative to the first mini-batch's",
        "iteration",
        [f"{name}, {step}" if several else name for name, step, _ in stages],
        [curve for _, _, curve in stages],
    )
    caption = "Weights of each stage: from the first loss to the last, each row on its own scale."
    return Chart("weight_losses", caption, svg, data, listed=False)


def _network_losses(step: str, curve: list[tuple[int, float]]) -> Chart:
    data = Table({"iteration": whole, "loss": number}, curve)
    iterations, losses = zip(*curve, strict=True)
    svg = charts.lines(
        f"{step}-loss",
        f"Loss of {step}, {number(losses[0])} at first and {number(losses[-1])} at last",
        ("iteration", "relative error of the outputs"),
        iterations,
        {"loss": losses},
    )
    return Chart(f"{step}_loss", f"The whole network: {step}.", svg, data, listed=False)


def _seconds(contents: Contents) -> Section:
    title, phases = "Seconds", contents.results.get("seconds", {})
    drawn = []
    if phases:
        data = Table({"phase": str, "seconds": number}, [(p.replace("_", " "), s) for p, s in phases.items()])
        drawn.append(_seconds_chart("seconds_by_phase", "phase", "Phases of the run.", data))
    if records := contents.records:
        data = Table({"stage": str, "seconds": number}, [(r["name"], r["seconds"]) for r in records])
        drawn.append(_seconds_chart("seconds_by_stage", "stage", "Calibration of each stage.", data))
    return Section("seconds", title, [] if drawn else [NO_RESULTS], drawn)


def _seconds_chart(name: str, key: str, caption: str, data: Table) -> Chart:
    rows = data.column(key)
    title = f"Seconds of {len(rows)} {key}s, {number(sum(data.column('seconds')))} in all"
    svg = charts.bars(name.replace("_", "-"), title, "seconds", rows, {"seconds": data.column("seconds")})
    return Chart(name, caption, svg, data)


def _repeat(contents: Contents) -> Section:
    results, conversion = contents.results, contents.conversion
    settings = Table(
        {"setting": str, "value": str},
        list(_flat({"conversion": vars(conversion), **results.get("config", {})})),
    )
    versions = Table({"package": str, "version": str}, list(_versions()))
    command = results.get("command", "")
    texts = [f"Seed {results['seed']}."] if "seed" in results else []
    texts.append(
        "This command does it again:" if command else "No command is known: another program made this page."
    )
    return Section(
        "repeat",
        "Settings, versions and how to repeat it",
        texts,
        (),
        {"Versions": versions, "Settings": settings},
        code=command,
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _versions() -> Iterator[tuple[str, str]]:
    from snn_lightning.version import __version__

    yield "snn_lightning", __version__
    yield "python", platform.python_version()
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
