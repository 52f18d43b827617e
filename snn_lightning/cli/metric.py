"""The number of a run's results that a sweeper of Hydra optimises."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from snn_lightning.analysis.results import Results
from snn_lightning.errors import SettingsError

LATE = ("stages", "trials", "seconds_by_step")
"""Results of a finished calibration or search alone: whether they have such a number is not known before."""


def metric(results: Results, name: str) -> float:
    """Return a number of `results`.

    Args:
        results: what is written to `results.json`.
        name: its key; of a nested number all keys, with dots; in a list the position, counted from 0.

    Raises:
        SettingsError: there is no such number.
    """
    found = dict(_numbers(results))
    if name not in found:
        names = dict.fromkeys(re.sub(r"\.\d+", ".N", key) for key in found if not key.startswith("config."))
        raise SettingsError(
            f"optimized_metric={name}: the results of this run have no such number. There are "
            f"{', '.join(names)} (N counts from 0), and the settings below config."
        )
    return found[name]


def main_score(results: Results) -> str:
    """Return the name of the number that is optimised unless another is named.

    Example:
        >>> main_score({"scores": ["map50", "map"], "ann_map50": 0.5, "snn_map50": 0.4})
        'snn_map50'
    """
    name = results["scores"][0]
    return f"snn_{name}" if f"snn_{name}" in results else f"ann_{name}"


def check_metric(
    config: Mapping[str, Any], names: list[str], phases: list[str], lists: Mapping[str, int] | None = None
) -> None:
    """Check before a run that it will have the number `optimized_metric`.

    Args:
        config: the resolved Hydra config.
        names: the numbers of its results.
        phases: the keys of `seconds`, that of pretraining left out.
        lists: the length of each list of numbers that an SNN's results have.

    Raises:
        SettingsError: it will not.
    """
    name = config["optimized_metric"]
    if name is None or str(name).split(".")[0] in LATE:
        return
    if config["ckpt"] is None:
        phases = ["pretrain", *phases]
    spiking: dict[str, Any] = {key: [0.0] * length for key, length in lists.items()} if lists else {}
    if lists:
        spiking |= {"timesteps": 0, "latency_steps": 0}
    values = {"seed": 0, **dict.fromkeys(names, 0.0), **spiking, "seconds": dict.fromkeys(phases, 0.0)}
    metric({**values, "config": config}, name)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield name, float(value)
    elif isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in items:
            yield from _numbers(part, f"{name}.{key}" if name else str(key))
