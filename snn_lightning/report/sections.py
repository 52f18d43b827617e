"""The page from top to bottom: the numbers of its head, and its sections."""

from __future__ import annotations

from collections.abc import Mapping

from snn_lightning.analysis.energy import EnergyReport
from snn_lightning.analysis.results import percent
from snn_lightning.report import charts
from snn_lightning.report.collect import Contents
from snn_lightning.report.images import calibration_images
from snn_lightning.report.measured import energy, errors, firing, mismatch, sites
from snn_lightning.report.parts import Chart, Section, Table, number, whole
from snn_lightning.report.run import losses, over_time, repeat, seconds, stored
from snn_lightning.report.search import searched


def sections(contents: Contents, warnings: list[str]) -> list[Section]:
    """Return the sections of the page."""
    return [
        over_time(contents),
        *searched(contents),
        network(contents),
        *calibration_images(contents),
        errors(contents),
        mismatch(contents),
        sites(contents),
        firing(contents),
        energy(contents),
        losses(contents),
        seconds(contents),
        *stored(contents),
        Section("warnings", "Warnings", [] if warnings else ["None."], items=warnings),
        repeat(contents),
    ]


def stats(contents: Contents) -> list[tuple[str, str]]:
    """Return the numbers of the head line, each with what it is."""
    found: list[tuple[str, str]] = []
    calibrated = "calibrated SNN" if contents.report.status == "calibrated" else "SNN"
    for score in contents.scores:
        values = (("ANN", score.ann), ("uncalibrated SNN", score.uncalibrated), (calibrated, score.snn))
        found += [(f"{score.title}, {of}", percent(value)) for of, value in values if value is not None]
    energy, results = contents.energy, contents.results
    ratios = {
        "energy, of the ANN's": energy.ratio if energy else results.get("energy_ratio"),
        "energy, of a zero-skipping ANN's": energy.skipping_ratio
        if energy
        else results.get("energy_ratio_zero_skipping"),
    }
    found += [(title, percent(ratio)) for title, ratio in ratios.items() if ratio is not None]
    return found


def network(contents: Contents) -> Section:
    """Show the stages and their thresholds."""
    report = contents.report
    shapes = report.shapes
    caps = {"cap": number} if report.caps else {}
    table = Table(
        {
            "stage": str,
            "what": str,
            "module": str,
            "neurons": whole,
            "shape": str,
            **caps,
            "operators": str,
        },
        [
            (
                name,
                "spikes" if kind == "neuron" else kind,
                path or None,
                report.neurons.get(name),
                " × ".join(map(str, shapes[name])) if name in shapes else None,
                *(report.caps.get(name) for _ in caps),
                ", ".join(operators) or None,
            )
            for name, kind, path, operators in report.stages
        ],
    )
    texts = [f"{report.summary}.", *(f"{line}." for line in report.footer())]
    if contents.energy is not None and contents.energy.analog:
        texts.append(_analog_shares(contents.energy))
    drawn = [_thresholds(report.thresholds)] if report.thresholds else []
    return Section("network", "The network as it was converted", texts, drawn, {"Stages": table})


def _analog_shares(energy: EnergyReport) -> str:
    """Say how much of the ANN stays analog, and in which stages."""
    whole = sum(stage.ann for stage in energy.stages)
    most = sorted((stage for stage in energy.stages if stage.analog), key=lambda s: s.analog, reverse=True)
    named = ", ".join(f"{stage.name} ({100 * stage.analog / whole:.3g} %)" for stage in most[:8])
    return (
        f"{100 * energy.analog:.3g} % of the ANN's multiply-accumulates stay analog, most of them in the "
        f"stages of {named}."
    )


def _thresholds(thresholds: Mapping[str, tuple[float, float, float]]) -> Chart:
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
    return Chart("thresholds", "Firing thresholds: smallest, median and largest channel.", svg, data)
