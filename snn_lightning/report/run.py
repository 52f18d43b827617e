"""The sections about a run: scores, losses, seconds, and how to repeat it."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from snn_lightning.analysis.format import in_bytes
from snn_lightning.analysis.results import percent, phase_label, seconds_by_step
from snn_lightning.report import charts
from snn_lightning.report.collect import Contents, Score
from snn_lightning.report.measured import NO_RECORDS
from snn_lightning.report.parts import Chart, Section, Table, number, whole
from snn_lightning.version import __version__

NO_RESULTS = "Not known here: pass the results of a run, write_report(snn, folder, results=results)."

LIBRARIES = ("torch", "torchvision", "lightning", "numpy", "matplotlib")


def over_time(contents: Contents) -> Section:
    """Show how the scores rise with time."""
    title = (
        "Accuracy against time"
        if [s.name for s in contents.scores] == ["accuracy"]
        else "Scores against time"
    )
    known = [score for score in contents.scores if score.over_time]
    texts = [text for score in known for text in _reached(score)] if known else [NO_RESULTS]
    steps, timesteps = contents.report.latency_steps, contents.report.timesteps
    if known and steps != timesteps:
        texts.append(f"t counts the last {timesteps} of the {steps} time steps that an inference takes.")
    return Section("time", title, texts, [_over_time_chart(score) for score in known])


def _reached(score: Score) -> Iterator[str]:
    """Say from when on the SNN is near the ANN."""
    if score.ann is None or not math.isfinite(score.ann - score.over_time[-1]):
        return
    near = [value >= score.ann - 0.01 for value in score.over_time]
    if not near[-1]:
        lost = 100 * (score.ann - score.over_time[-1])
        yield f"After t={score.times[-1]} the SNN's {score.title} is {lost:.2f} points below the ANN's."
    else:
        last_far = max((i for i, is_near in enumerate(near) if not is_near), default=-1)
        yield f"From t={score.times[last_far + 1]} on the SNN's {score.title} is within a point of the ANN's."


def _over_time_chart(score: Score) -> Chart:
    count, last = len(score.times), score.times[-1]
    uncalibrated = [None] * (count - 1) + [score.uncalibrated]
    name = re.sub(r"\W", "_", score.name)
    data = Table(
        {"t": whole, "SNN": percent, "ANN": percent, "uncalibrated SNN": percent},
        list(zip(score.times, score.over_time, [score.ann] * count, uncalibrated, strict=True)),
    )
    svg = charts.lines(
        f"{name}-over-time",
        f"{score.title} of the SNN after each of {last} time steps: {percent(score.over_time[0])} after "
        f"t={score.times[0]}, {percent(score.over_time[-1])} after t={last}",
        ("time step t", f"{score.title}, %"),
        score.times,
        {"SNN": [100 * value for value in score.over_time]},
        {} if score.ann is None else {"ANN": 100 * score.ann},
        {} if score.uncalibrated is None else {"uncalibrated SNN": (last, 100 * score.uncalibrated)},
    )
    return Chart(f"{name}_over_time", f"The mean readout of the first t steps: its {score.title}.", svg, data)


def losses(contents: Contents) -> Section:
    """Show the losses of all that was trained by gradient descent."""
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


def seconds(contents: Contents) -> Section:
    """Show how long the phases of the run, and the stages and steps of the calibration took."""
    title, phases = "Seconds", contents.results.get("seconds", {})
    drawn = []
    if phases:
        data = Table({"phase": str, "seconds": number}, [(phase_label(p), s) for p, s in phases.items()])
        drawn.append(_seconds_chart("seconds_by_phase", "phase", "Phases of the run.", data))
    if records := contents.records:
        data = Table({"stage": str, "seconds": number}, [(r["name"], r["seconds"]) for r in records])
        drawn.append(_seconds_chart("seconds_by_stage", "stage", "Calibration of each stage.", data))
        if steps := seconds_by_step(records):
            data = Table({"step": str, "seconds": number}, list(steps.items()))
            drawn.append(
                _seconds_chart("seconds_by_step", "step", "Calibration by step, over all stages.", data)
            )
    return Section("seconds", title, [] if drawn else [NO_RESULTS], drawn)


def stored(contents: Contents) -> list[Section]:
    """Show the bytes of what another T has other values of, where they have been counted."""
    found = contents.results.get("parameter_bytes")
    if not found:
        return []
    rows = [*found.items(), ("in all", sum(found.values()))]
    text = (
        "What makes the ANN's network the SNN of this T: thresholds, weights that are not the ANN's, and "
        "potentials and biases that don't follow from thresholds and T."
    )
    table = {"Calibrated parameters": Table({"parameters": str, "bytes": in_bytes}, rows)}
    return [Section("bytes", "Bytes to be stored for this T", [text], tables=table)]


def _seconds_chart(name: str, key: str, caption: str, data: Table) -> Chart:
    rows = data.column(key)
    title = f"Seconds of {len(rows)} {key}s, {number(sum(data.column('seconds')))} in all"
    svg = charts.bars(name.replace("_", "-"), title, "seconds", rows, {"seconds": data.column("seconds")})
    return Chart(name, caption, svg, data)


def repeat(contents: Contents) -> Section:
    """Show settings, versions and the command."""
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
    yield "snn_lightning", __version__
    yield "python", platform.python_version()
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
