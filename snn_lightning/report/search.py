"""The section about a search for the fewest time steps."""

from __future__ import annotations

from snn_lightning.analysis.results import percent
from snn_lightning.analysis.trials import Trial
from snn_lightning.report import charts
from snn_lightning.report.collect import Contents
from snn_lightning.report.parts import Chart, Section, Table, number, whole


def searched(contents: Contents) -> list[Section]:
    """Show what was tried; no section where nothing was."""
    results = contents.results
    trials = [Trial(**one) for one in results.get("trials", ())]
    if not trials:
        return []
    data = Table(
        {
            "pipeline": str,
            "neuron": str,
            "T": whole,
            "time steps of an inference": whole,
            "loses, points": number,
            "score": percent,
            "energy, of the ANN's": percent,
            "seconds to simulate an image": number,
            "seconds of calibration": number,
            "within the budget": str,
        },
        [
            (
                one.pipeline,
                one.neuron,
                one.timesteps,
                one.latency_steps,
                one.drop,
                one.score,
                one.energy_ratio,
                one.seconds_an_image,
                one.seconds,
                "yes" if one.met else "no",
            )
            for one in trials
        ],
    )
    svg = charts.bars(
        "search",
        f"What the SNNs of {len(trials)} trials lose against the ANN",
        "loss, points",
        [f"{one.pipeline} {one.neuron} T={one.timesteps}" for one in trials],
        {"loss": [one.drop for one in trials]},
    )
    texts = []
    if (max_drop := results.get("max_drop")) is not None:
        met = "There is one." if any(one.met for one in trials) else "There is none."
        texts = [f"Wanted: an SNN that loses {max_drop:g} points at most on the validation images. {met}"]
    caption = "Loss against the ANN on the validation images, in the order of the trials."
    return [Section("search", "The search for time steps", texts, [Chart("search", caption, svg, data)])]
