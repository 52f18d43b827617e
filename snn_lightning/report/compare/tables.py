"""The tables of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from snn_lightning.analysis.parameters import KINDS
from snn_lightning.analysis.results import step_order
from snn_lightning.report.compare.methods import Mean, Method, Panel
from snn_lightning.report.parts import Table, Text, whole

Layout = Literal["T", "long"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

MEASURED = {
    "uncalibrated": "uncalibrated_{score}",
    "snn": "snn_{score}",
    "latency_steps": "latency_steps",
    "energy_ratio": "energy_ratio",
    "energy_ratio_zero_skipping": "energy_ratio_zero_skipping",
    "calibration_seconds": "seconds.calibration",
}
"""What is compared of all runs at each T, and where it stands in the results."""


def steps_of(panels: Sequence[Panel]) -> dict[str, str]:
    """Return the calibration steps of all runs, and where their seconds stand in the results."""
    runs = (
        run for panel in panels for method in panel.methods for runs in method.runs.values() for run in runs
    )
    names = step_order(name for run in runs for name in run.results.get("seconds_by_step") or {})
    return {name: f"seconds_by_step.{name}" for name in names}


def _measured(panels: Sequence[Panel]) -> dict[str, str]:
    """Return what is compared at each T, and where it stands in the results."""
    found = {f"seconds_{name}": key for name, key in steps_of(panels).items()}
    found |= {f"bytes_{kind}": f"parameter_bytes.{kind}" for kind in KINDS}
    methods = [method for panel in panels for method in panel.methods]
    known = {key for key in found.values() if any(m.mean(key, t) for m in methods for t in m.runs)}
    return MEASURED | {name: key for name, key in found.items() if key in known}


def spread(mean: Mean) -> str:
    """Return mean and deviation of a fraction in percent, with two digits.

    Example:
        >>> spread(Mean(0.83, 0.0264575)), spread(Mean(0.83, None))
        ('83.00 ± 2.65', '83.00')
    """
    deviation = "" if mean.deviation is None else f" ± {100 * mean.deviation:.2f}"
    return f"{100 * mean.mean:.2f}{deviation}"


def seconds(mean: Mean) -> str:
    """Return mean and deviation of seconds, with three digits of the mean.

    Example:
        >>> seconds(Mean(0.01234, 0.00096)), seconds(Mean(123.4, None)), seconds(Mean(0.0, 0.0))
        ('0.0123 ± 0.0010', '123', '0.00 ± 0.00')
    """
    exponent = math.floor(math.log10(mean.mean)) if mean.mean > 0 else 0
    digits = min(max(2 - exponent, 0), 4)
    deviation = "" if mean.deviation is None else f" ± {mean.deviation:.{digits}f}"
    return f"{mean.mean:.{digits}f}{deviation}"


def steps(mean: Mean) -> str:
    """Return a number of time steps.

    Example:
        >>> steps(Mean(12.0, 0.0))
        '12'
    """
    return f"{mean.mean:g}"


def score_table(panel: Panel, layout: Layout | None = None) -> tuple[str, Table]:
    """Return the table of a panel, and what it shows.

    Args:
        panel: the methods.
        layout: "T" has a row a method and a column a T, as PC Tables 2 and 3; "long" has a row for each
            method and T, and more about it; None is the first where there are several T.
    """
    if layout == "T" or (layout is None and len(panel.timesteps) > 1):
        return f"{panel.title}: {panel.score_title} after T time steps, %", _by_timesteps(panel)
    return f"{panel.title}: {panel.score_title}, %", _long(panel)


def _by_timesteps(panel: Panel) -> Table:
    columns: dict[str, Text] = {**method_columns(panel), "seeds": _right, "ANN": spread}
    columns |= dict.fromkeys((f"T={timesteps}" for timesteps in panel.timesteps), spread)
    rows = [
        [
            *method_cells(method),
            method.seeds,
            method.ann(panel.score),
            *(method.mean(f"snn_{panel.score}", timesteps) for timesteps in panel.timesteps),
        ]
        for method in panel.methods
    ]
    return known(columns, rows)


def _long(panel: Panel) -> Table:
    columns: dict[str, Text] = {
        **method_columns(panel),
        "T": whole,
        "seeds": whole,
        "ANN": spread,
        "uncalibrated\nSNN": spread,
        "SNN": spread,
        "latency,\nsteps": steps,
        "energy,\nof the ANN's": spread,
        "energy, of a zero-\nskipping ANN's": spread,
        "calibration,\nseconds": seconds,
    }
    rows = [
        [
            *method_cells(method),
            timesteps,
            len(runs),
            method.ann(panel.score),
            *(method.mean(key.format(score=panel.score), timesteps) for key in MEASURED.values()),
        ]
        for method in panel.methods
        for timesteps, runs in method.runs.items()
    ]
    return known(columns, rows)


def all_numbers(panels: Sequence[Panel]) -> Table:
    """Return one table of plain numbers with a row for each method and T of all panels."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.settings))
    measured = _measured(panels)
    keys = ["ann", *measured]
    columns = ["model", "data", "pipeline", *names, "T", "seeds", "score"]
    columns += [f"{key}{part}" for key in keys for part in ("", "_deviation")]
    rows = []
    for panel in panels:
        for method in panel.methods:
            settings = [method.values.get(name) for name in names]
            for timesteps, runs in method.runs.items():
                row: list[Any] = [
                    panel.model,
                    panel.data,
                    method.pipeline,
                    *settings,
                    timesteps,
                    len(runs),
                    panel.score,
                ]
                means = [method.ann(panel.score)]
                means += [method.mean(key.format(score=panel.score), timesteps) for key in measured.values()]
                for mean in means:
                    row += [None, None] if mean is None else [mean.mean, mean.deviation]
                rows.append(row)
    return Table(dict.fromkeys(columns, str), rows)


def summary(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Return the same as plain values, an entry a method; means come with their deviations."""
    measured = _measured(panels)
    return [
        {
            "model": panel.model,
            "data": panel.data,
            "pipeline": method.pipeline,
            "settings": method.values,
            "score": panel.score,
            "seeds": {timesteps: len(runs) for timesteps, runs in method.runs.items()},
            "ann": _pair(method.ann(panel.score)),
            **{
                name: {t: _pair(method.mean(key.format(score=panel.score), t)) for t in method.runs}
                for name, key in measured.items()
            },
            "runs": [str(run.path) for runs in method.runs.values() for run in runs],
        }
        for panel in panels
        for method in panel.methods
    ]


def _pair(mean: Mean | None) -> list[float | None] | None:
    return None if mean is None else [mean.mean, mean.deviation]


def method_columns(panel: Panel) -> dict[str, Text]:
    """Return the columns that tell methods apart."""
    return {"pipeline": str, **dict.fromkeys(panel.settings, str)}


def method_cells(method: Method) -> list[str | None]:
    """Return a method's cells of these columns."""
    return [method.pipeline, *method.values.values()]


def _right(text: str) -> str:
    """Return a text that stands below numbers."""
    return text


def known(columns: dict[str, Text], rows: Sequence[Sequence[Any]]) -> Table:
    """Return a table without the columns of which nothing is known.

    Example:
        >>> known({"method": str, "energy": whole}, [["lcp", None]]).columns
        {'method': <class 'str'>}
    """
    kept = [any(cell is not None for cell in cells) for cells in zip(*rows, strict=True)]
    return Table(
        {name: text for keep, (name, text) in zip(kept, columns.items(), strict=True) if keep},
        [[cell for keep, cell in zip(kept, row, strict=True) if keep] for row in rows],
    )
