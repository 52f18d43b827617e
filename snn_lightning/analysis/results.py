"""The results of a run: written to `results.json`, shown as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from snn_lightning.analysis.format import si
from snn_lightning.errors import CheckpointError
from snn_lightning.files import write_atomically

Results = dict[str, Any]
"""Plain values. A calibration has at least `ann_accuracy`, `uncalibrated_accuracy`, `snn_accuracy`
(fractions), `accuracy_over_time` (t = 1...T), `spikes_per_image`, `firing_rate` (spikes a neuron and step),
`synaptic_operations` (of an image), `energy_ratio` (SNN over ANN), `timesteps` and `seconds` by phase."""


def write_results(path: str | Path, results: Results) -> None:
    """Write `results.json`, whole or not at all.

    Example:
        >>> write_results("results.json", {"snn_accuracy": 0.91})
        >>> read_results("results.json")
        {'snn_accuracy': 0.91}
    """
    write_atomically(path, (json.dumps(results, indent=2, default=str) + "\n").encode())


def read_results(path: str | Path) -> Results:
    """Read a `results.json`.

    Raises:
        CheckpointError: it is missing or not JSON.

    Example:
        >>> write_results("results.json", {"timesteps": 4})
        >>> read_results("results.json")["timesteps"]
        4
    """
    try:
        results = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"'{path}' is no results file ({error}); delete it or run its job again."
        ) from error
    if not isinstance(results, dict):
        raise CheckpointError(f"'{path}' is no results file; delete it or run its job again.")
    return results


def results_table(results: Results) -> Table:
    """Return what a user wants to see at the end of a run.

    Example:
        >>> table = results_table({"model": "vgg16", "data": "digits", "timesteps": 4, "snn_accuracy": 0.91})
        >>> table.title, list(table.columns[1].cells)
        ('vgg16 on digits', ['91.00 %'])
    """
    table = Table(
        title=f"{results.get('model')} on {results.get('data')}", title_justify="left", show_header=False
    )
    table.add_column()
    table.add_column(justify="right")
    timesteps = results.get("timesteps")
    for key, label in (
        ("ann_accuracy", "ANN accuracy"),
        ("uncalibrated_accuracy", f"uncalibrated SNN accuracy, T={timesteps}"),
        ("converted_accuracy", f"SNN accuracy before training, T={timesteps}"),
        ("snn_accuracy", f"SNN accuracy, T={timesteps}"),
    ):
        if results.get(key) is not None:
            table.add_row(label, percent(results[key]))
    if results.get("energy_ratio") is not None:
        table.add_row("spikes an image", si(results["spikes_per_image"]))
        table.add_row("synaptic operations an image", si(results["synaptic_operations"]))
        table.add_row("estimated energy, of the ANN's", percent(results["energy_ratio"]))
    over_time = results.get("accuracy_over_time")
    if over_time:
        table.add_section()
        for t, accuracy in enumerate(over_time, 1):
            table.add_row(f"SNN accuracy after t={t}", percent(accuracy))
    table.add_section()
    for phase, seconds in results.get("seconds", {}).items():
        table.add_row(f"seconds, {phase_label(phase)}", f"{seconds:.1f}")
    return table


def phase_label(phase: str) -> str:
    """Return a phase in words.

    Example:
        >>> phase_label("snn_test")
        'SNN test'
    """
    return phase.replace("_", " ").replace("ann", "ANN").replace("snn", "SNN")


def percent(fraction: float) -> str:
    """Return a fraction as percent with two digits.

    Example:
        >>> percent(0.9105)
        '91.05 %'
    """
    return f"{100 * fraction:.2f} %"
