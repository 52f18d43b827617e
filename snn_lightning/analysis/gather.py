"""Gather the results of a sweep: `python -m snn_lightning.analysis.gather multirun/`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from snn_lightning.analysis.results import Results, read_results
from snn_lightning.errors import CheckpointError
from snn_lightning.files import write_atomically

Key = tuple[str, str, str]


def find_results(folder: str | Path) -> list[Results]:
    """Return every `results.json` of a calibration below `folder`.

    Raises:
        CheckpointError: there is none.

    Example:
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4, "seed": 0}
        >>> write_atomically("results.json", json.dumps({**run, "snn_accuracy": 0.9}).encode())
        >>> [results["pipeline"] for results in find_results(".")]
        ['lcp']
    """
    found = [read_results(path) for path in sorted(Path(folder).rglob("results.json"))]
    found = [results for results in found if results.get("timesteps") and results.get("pipeline")]
    if not found:
        raise CheckpointError(
            f"There is no results.json of a calibration below '{folder}': name the sweep's folder."
        )
    return found


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (0 for a single value).

    Example:
        >>> mean_and_deviation([0.75, 0.75]), mean_and_deviation([0.5])
        ((0.75, 0.0), (0.5, 0.0))
    """
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def summarise(rows: list[Results]) -> dict[Key, dict[str, Any]]:
    """Group results over seeds.

    Args:
        rows: results of calibrations.

    Returns:
        For each (model, data, pipeline): `ann` as (mean, deviation) and `snn` with one such pair for each
        T; a second run of the same seed replaces the first.

    Example:
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4}
        >>> runs = [{**run, "seed": seed, "snn_accuracy": 0.75} for seed in (0, 1)]
        >>> summarise(runs)
        {('vgg16', 'digits', 'lcp'): {'ann': None, 'snn': {4: (0.75, 0.0)}, 'seeds': 2}}
    """
    summary = {}
    for key, runs in _by_seed(rows).items():
        snn = defaultdict(list)
        for (timesteps, _), row in sorted(runs.items()):
            snn[timesteps].append(row["snn_accuracy"])
        ann = {
            seed: row["ann_accuracy"]
            for (_, seed), row in runs.items()
            if row.get("ann_accuracy") is not None
        }
        summary[key] = {
            "ann": mean_and_deviation(list(ann.values())) if ann else None,
            "snn": {timesteps: mean_and_deviation(values) for timesteps, values in snn.items()},
            "seeds": len({seed for _, seed in runs}),
        }
    return summary


def energies(rows: list[Results]) -> dict[Key, dict[int, tuple[float, float]]]:
    """Return the energy of an inference over the ANN's, as (mean, deviation) over seeds.

    Args:
        rows: results of calibrations; those that say nothing of the energy are left out.

    Returns:
        For each (model, data, pipeline) one pair for each T.

    Example:
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4}
        >>> energies([{**run, "seed": seed, "energy_ratio": 0.25} for seed in (0, 1)])
        {('vgg16', 'digits', 'lcp'): {4: (0.25, 0.0)}}
    """
    found: dict[Key, dict[int, tuple[float, float]]] = {}
    for key, runs in _by_seed([row for row in rows if row.get("energy_ratio") is not None]).items():
        ratios = defaultdict(list)
        for (timesteps, _), row in sorted(runs.items()):
            ratios[timesteps].append(row["energy_ratio"])
        found[key] = {timesteps: mean_and_deviation(values) for timesteps, values in ratios.items()}
    return found


def _by_seed(rows: list[Results]) -> dict[Key, dict[tuple[int, int], Results]]:
    found: dict[Key, dict[tuple[int, int], Results]] = defaultdict(dict)
    for row in rows:
        found[row["model"], row["data"], row["pipeline"]][row["timesteps"], row["seed"]] = row
    return found


def summary_table(summary: dict[Key, dict[str, Any]]) -> Table:
    """Return a table shaped like PC Tables 2 and 3: a row a method, a column a T, in percent.

    Example:
        >>> row = {"ann": (0.9, 0.01), "snn": {4: (0.75, 0.0)}, "seeds": 2}
        >>> table = summary_table({("vgg16", "digits", "lcp"): row})
        >>> [cell for column in table.columns[4:] for cell in column.cells]
        ['90.00 ± 1.00', '75.00 ± 0.00']
    """
    steps = sorted({timesteps for entry in summary.values() for timesteps in entry["snn"]})
    table = Table("model", "data", "pipeline", "seeds", "ANN", *(f"T={t}" for t in steps))
    for (model, data, pipeline), entry in sorted(summary.items()):
        cells = [_cell(entry["snn"].get(t)) for t in steps]
        table.add_row(model, data, pipeline, str(entry["seeds"]), _cell(entry["ann"]), *cells)
    return table


def _cell(pair: tuple[float, float] | None) -> str:
    return f"{100 * pair[0]:.2f} ± {100 * pair[1]:.2f}" if pair is not None else "-"


def main() -> None:
    """Print the table, and write it as JSON beside the results."""
    parser = argparse.ArgumentParser(
        prog="python -m snn_lightning.analysis.gather",
        description="Gather every results.json below a folder into a table: mean ± deviation over seeds.",
    )
    parser.add_argument("folder", help="a sweep's folder, such as multirun/")
    folder = parser.parse_args().folder
    path = Path(folder) / "summary.json"
    console = Console()
    try:
        summary = summarise(find_results(folder))
        console.print(summary_table(summary), highlight=False)
        rows = [
            {"model": m, "data": d, "pipeline": p, **entry} for (m, d, p), entry in sorted(summary.items())
        ]
        write_atomically(path, (json.dumps(rows, indent=2) + "\n").encode())
    except CheckpointError as error:
        parser.exit(1, f"Error: {error}\n")
    console.print(f"Summary: {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
