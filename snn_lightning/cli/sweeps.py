"""Combinations of a sweep's axes that are no job."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from snn_lightning.errors import SettingsError

MISSING = object()


def any_describes(combinations: Sequence[Mapping[str, Any]], value_of: Callable[[str], Any]) -> bool:
    """Whether one of `combinations` describes a job.

    Args:
        combinations: each names keys of the command line, and a value or a list of values of each.
        value_of: the job's value of a key.

    Example:
        >>> combinations = [{"model": ["vgg16", "resnet20"], "pipeline": "acp"}]
        >>> any_describes(combinations, {"model": "vgg16", "pipeline": "acp"}.get)
        True
        >>> any_describes(combinations, {"model": "vgg16", "pipeline": "lcp"}.get)
        False
    """
    return any(
        all(
            value_of(key) in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in one.items()
        )
        for one in combinations
    )


def is_left_out(config: DictConfig) -> bool:
    """Whether the config's `leave_out` names the job of a sweep that this is.

    Raises:
        SettingsError: `leave_out` has another form, or a key that isn't there.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    choices = HydraConfig.get().runtime.choices
    combinations = OmegaConf.to_container(config).get("leave_out", [])  # type: ignore[union-attr]
    if not isinstance(combinations, list) or not all(isinstance(one, dict) and one for one in combinations):
        raise SettingsError(
            f"leave_out must be a list such as [{{model: vgg16, pipeline: acp}}], got {combinations!r}"
        )

    def value_of(key: str) -> Any:
        value = choices.get(key, OmegaConf.select(config, key, default=MISSING))
        if value is MISSING:
            raise SettingsError(f"leave_out has '{key}', which this config hasn't; see --cfg job")
        return value

    return any_describes(combinations, value_of)


def forget_job() -> None:
    """Delete what Hydra has written of this job, by which a comparison knows what was started."""
    config = HydraConfig.get()
    if config.output_subdir:
        shutil.rmtree(Path(config.runtime.output_dir) / config.output_subdir, ignore_errors=True)
