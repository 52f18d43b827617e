"""The results of a run: written to `results.json`, shown as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from snn_lightning.analysis.format import si
from snn_lightning.errors import CheckpointError
from snn_lightning.files import write_atomically

Results = dict[str, Any]
"""Plain values. A calibration of a classifier has at least `ann_accuracy`, `uncalibrated_accuracy`,
`snn_accuracy` (fractions), `accuracy_over_time` (t = 1...T), `spikes_per_image`, `firing_rate` (spikes a
neuron and step), `synaptic_operations` (of an image), `energy_ratio` (SNN over ANN),
`energy_ratio_zero_skipping` (SNN over an ANN that skips zeros), `timesteps`, `parameter_bytes` by kind,
`seconds_by_step` of the calibration, and `seconds` by phase. In the place of accuracy others have what
`scores` names; where those are not taken at every step, `times` says at which."""

TITLES = {"map": "mAP", "map50": "mAP50", "miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
"""What people call the scores."""


def score_names(results: Results) -> list[str]:
    """Return the names of a run's scores, the most important one first.

    Example:
        >>> score_names({"scores": ["map50", "map"]}), score_names({"snn_accuracy": 0.9})
        (['map50', 'map'], ['accuracy'])
    """
    return results.get("scores", ["accuracy"])


def write_results(path: str | Path, results: Results) -> None:
    """Write `results.json`, whole or not at all.

    Example:
        >>> write_results("results.json", {"snn_accuracy": 0.91})
        >>> read_results("results.json")
        {'snn_accuracy': 0.91}
    """
    write_atomically(path, strict_json(results).encode())


def strict_json(values: Any) -> str:
    """Return plain values as JSON that every program reads: numbers that are not finite become null.

    Example:
        >>> print(strict_json({"snn_miou": float("nan")}), end="")
        {
          "snn_miou": null
        }
    """
    # Read back once, which names everything that is no JSON: NaN and both infinities.
    finite = json.loads(json.dumps(values, default=str), parse_constant=_nothing)
    return json.dumps(finite, indent=2, allow_nan=False) + "\n"


def _nothing(constant: str) -> None:
    """Return None for NaN and infinities, which are no JSON."""


def read_results(path: str | Path) -> Results:
    """Read a `results.json`; NaN, which older versions wrote, is None, as in the files of this one.

    Raises:
        CheckpointError: it is missing or not JSON.

    Example:
        >>> write_results("results.json", {"timesteps": 4})
        >>> read_results("results.json")["timesteps"]
        4
    """
    try:
        results = json.loads(Path(path).read_text(), parse_constant=_nothing)
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
    names, timesteps = score_names(results), results.get("timesteps")
    for network, label in (
        ("ann", "ANN {}"),
        ("uncalibrated", f"uncalibrated SNN {{}}, T={timesteps}"),
        ("converted", f"SNN {{}} before training, T={timesteps}"),
        ("snn", f"SNN {{}}, T={timesteps}"),
    ):
        for name in names:
            if (score := results.get(f"{network}_{name}")) is not None:
                table.add_row(label.format(TITLES.get(name, name)), percent(score))
    if (steps := results.get("latency_steps", timesteps)) != timesteps:
        table.add_row("time steps of an inference", str(steps))
    if results.get("energy_ratio") is not None:
        table.add_row("spikes an image", si(results["spikes_per_image"]))
        table.add_row("synaptic operations an image", si(results["synaptic_operations"]))
        table.add_row("estimated energy, of the ANN's", percent(results["energy_ratio"]))
    if (skipping := results.get("energy_ratio_zero_skipping")) is not None:
        table.add_row("estimated energy, of a zero-skipping ANN's", percent(skipping))
    over_time = results.get(f"{names[0]}_over_time")
    if over_time:
        table.add_section()
        for t, score in zip(results.get("times", range(1, len(over_time) + 1)), over_time, strict=True):
            shown = "–" if score is None else percent(score)
            table.add_row(f"SNN {TITLES.get(names[0], names[0])} after t={t}", shown)
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


def seconds_by_step(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each step of a calibration over all stages, as its records have them.

    Args:
        records: see `StageRecord`; those of older versions say nothing of it, and then neither does the sum.

    Example:
        >>> one, two = {"observe": 0.25, "bias": 1.0, "fire": 0.5}, {"observe": 0.25, "threshold": 2.0}
        >>> seconds_by_step([{"seconds_by_step": one}, {"seconds_by_step": two}])
        {'observe': 0.5, 'threshold': 2.0, 'bias': 1.0, 'fire': 0.5}
    """
    parts = [record.get("seconds_by_step") for record in records]
    if not all(parts):
        return {}
    names = step_order(name for part in parts for name in part or ())
    return {name: round(sum((part or {}).get(name, 0.0) for part in parts), 4) for name in names}


def step_order(names: Iterable[str]) -> list[str]:
    """Return names of steps, each once, in the order of a stage: observed first, and fired last.

    Example:
        >>> step_order(["observe", "bias", "fire", "threshold", "bias", "weights"])
        ['observe', 'threshold', 'bias', 'weights', 'fire']
    """
    found = dict.fromkeys(names)
    first = [name for name in ("observe", "threshold") if name in found]
    last = [name for name in ("fire",) if name in found]
    return [*first, *(name for name in found if name not in (*first, *last)), *last]


def percent(fraction: float) -> str:
    """Return a fraction as percent with two digits.

    Example:
        >>> percent(0.9105)
        '91.05 %'
    """
    return f"{100 * fraction:.2f} %"
