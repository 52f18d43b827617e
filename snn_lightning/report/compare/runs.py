"""Find what runs of `calibrate.py` have left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.analysis.results import Results, read_results, score_names
from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.report.compare.settings import SYNTHESIS, TARGET

RESULTS = "results.json"
KIND = {"model": str, "data": str, "pipeline": str, "timesteps": int}

SEEDS = {"seed", "ann_seed", "calibration_seed"}
RESULTING = {"T", "timesteps", "pipeline_name", "leave_out", "report", "figures", "figure_images"}
SEARCH = {"max_drop", "objective", "candidates"}
PLACES = {"cache_dir", "data_root", "default_root_dir", "logger", "optimized_metric"}
MACHINES = {"accelerator", "devices", "num_nodes", "strategy", "num_workers", "enable_progress_bar"}
"""Keys of a config that make no other method: they are in the results by themselves, or say where and how a
run took place."""


@dataclass(frozen=True)
class Run:
    """The results of one calibration.

    Args:
        path: its `results.json`.
        results: what is in it.
        modified: when it was written, seconds.
    """

    path: Path
    results: Results
    modified: float

    @property
    def network(self) -> tuple[str, str]:
        """The model and the data."""
        return self.results["model"], self.results["data"]

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self.results["pipeline"]

    @property
    def timesteps(self) -> int:
        """T."""
        return self.results["timesteps"]

    @cached_property
    def settings(self) -> Any:
        """The config without seeds, time steps, and what only says where a run took place."""
        return _without(self._config, SEEDS | RESULTING | SEARCH | PLACES | MACHINES) or {}

    @cached_property
    def seeds(self) -> tuple[str, ...]:
        """The seed, and those that a user may have set apart for data and pipeline."""
        return tuple(map(str, [self.results.get("seed"), *_values(self._config, "seed")]))

    @cached_property
    def _config(self) -> dict[str, Any]:
        """The config without what changes nothing, and isn't there in runs of older versions.

        Those had the default prices of energy.
        """
        config = self.results.get("config") or {}
        sources = str(config.get("data_source") or "real").split("+")
        unused = {"skip_unreadable"} if "synthetic" in sources else {"skip_unreadable", SYNTHESIS}
        unused |= {"data_source"} if sources == ["real"] else set()
        kept = {key: value for key, value in config.items() if key not in unused}
        return {"energy": {TARGET: "snn_lightning.EnergyModel", **asdict(EnergyModel())}, **kept}


def find_runs(paths: Iterable[str | Path]) -> tuple[list[Run], list[str]]:
    """Read the results of runs.

    Args:
        paths: folders of runs or sweeps, which are searched with all folders in them, or files.

    Returns:
        The runs in the order of `paths`, and notes about what has been left out.

    Raises:
        SettingsError: a path doesn't exist.
        CheckpointError: a file is damaged, or there is no result at all.

    Example:
        >>> from snn_lightning.analysis.results import write_results
        >>> run = {"model": "vgg16", "data": "digits", "pipeline": "lcp", "timesteps": 4, "snn_accuracy": 0.9}
        >>> write_results("sweep/0/results.json", run)
        >>> runs, notes = find_runs(["sweep"])
        >>> [run.pipeline for run in runs], notes
        (['lcp'], [])
    """
    files, notes = _files([Path(path) for path in paths])
    runs, others = [], []
    for file in files:
        results = read_results(file)
        if results.get("timesteps") and results.get("pipeline"):
            runs.append(_checked(file, results))
        else:
            others.append(file)
    if not runs:
        named = ", ".join(f"'{path}'" for path in paths)
        raise CheckpointError(
            f"There is no {RESULTS} of a calibration in {named}: name folders of runs of calibrate.py, or of "
            f"sweeps.{' ' if notes else ''}{' '.join(notes)}"
        )
    notes += [f"{file} is left out: it is of no calibration, but of a training or a test." for file in others]
    return runs, notes


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return all files of results, each once, and notes about folders that have none."""
    files: dict[Path, Path] = {}
    notes: list[str] = []
    for path in paths:
        if not path.exists():
            raise SettingsError(f"There is no '{path}': name folders of runs or sweeps, or files {RESULTS}")
        found = [path] if path.is_file() else sorted(path.rglob(RESULTS), key=_natural)
        for file in found:
            files.setdefault(file.resolve(), file)
        # Hydra makes this folder when a run starts.
        started = [] if path.is_file() else sorted((p.parent for p in path.rglob(".hydra")), key=_natural)
        unfinished = [folder for folder in started if not (folder / RESULTS).exists()]
        notes += [
            f"{folder} is left out: there is no {RESULTS}, so the run has failed, goes on or was a dry run."
            for folder in unfinished
        ]
        if not found and not unfinished:
            notes.append(f"{path} is left out: there is no {RESULTS} in it.")
    return list(files.values()), list(dict.fromkeys(notes))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts job 10 behind job 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _checked(path: Path, results: Results) -> Run:
    """Raise a CheckpointError if what a comparison reads has other types than a run writes."""
    for key, kind in KIND.items():
        if not isinstance(results.get(key), kind):
            raise _damaged(path, f"{key} is {results.get(key)!r}")
    names = score_names(results)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise _damaged(path, f"scores is {names!r}")
    if not any(f"snn_{name}" in results for name in names):
        raise _damaged(path, f"there is no snn_{names[0]}")
    for key, kind in {"config": dict, "seconds": dict, "stages": list}.items():
        if not isinstance(results.get(key), kind | None):
            raise _damaged(path, f"{key} is no {kind.__name__}")
    _check_numbers(path, results, names)
    for record in results.get("stages") or []:
        whole = isinstance(record, dict) and {"name", "kind", "error"} <= record.keys()
        if not whole or not _is_number(record["error"]) or not isinstance(record.get("steps"), dict):
            raise _damaged(path, "a stage lacks its name, kind, error or steps")
    return Run(path, results, path.stat().st_mtime)


def _check_numbers(path: Path, results: Results, names: Sequence[str]) -> None:
    scores = [f"{network}_{name}" for name in names for network in ("ann", "uncalibrated", "snn")]
    for key in [*scores, "energy_ratio", "energy_ratio_zero_skipping", "latency_steps"]:
        if not _is_number(results.get(key)):
            raise _damaged(path, f"{key} is {results.get(key)!r}")
    for key in ("seconds_by_step", "parameter_bytes"):
        values = results.get(key)
        if not (values is None or (isinstance(values, dict) and all(map(_is_number, values.values())))):
            raise _damaged(path, f"{key} has something else than numbers")
    if not _is_number(seconds := (results.get("seconds") or {}).get("calibration")):
        raise _damaged(path, f"seconds.calibration is {seconds!r}")
    for key in [*(f"{name}_over_time" for name in names), "times"]:
        values = results.get(key)
        if not (values is None or (isinstance(values, list) and all(map(_is_number, values)))):
            raise _damaged(path, f"{key} is no list of numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | None) and not isinstance(value, bool)


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"'{path}' is damaged ({what}); delete it or run its job again.")


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        kept = {key: _without(item, keys) for key, item in value.items() if key not in keys}
        value = {key: item for key, item in kept.items() if item is not None}
    if isinstance(value, list):
        value = [_without(item, keys) for item in value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5 and 5.0 are one setting
    # What is empty is as good as not there, as in the files of an older version.
    return None if value in ([], {}) else value


def _values(value: Any, wanted: str) -> Iterable[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from [item] if key == wanted else _values(item, wanted)
