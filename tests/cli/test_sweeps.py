"""Combinations of a sweep's axes that are no job."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from snn_lightning.cli.sweeps import any_describes, is_left_out
from snn_lightning.errors import SettingsError
from tests.composing import composed


@pytest.mark.parametrize(
    ("job", "left_out"),
    [
        ({"model": "a", "T": 4}, True),
        ({"model": "b", "T": 4}, True),
        ({"model": "b", "T": 8}, False),
        ({"model": "c", "T": 4}, False),
        ({"model": "d", "T": 8}, True),
    ],
)
def test_a_combination_describes_a_job_if_all_its_values_do(job: dict[str, Any], left_out: bool) -> None:
    combinations = [{"model": ["a", "b"], "T": 4}, {"model": "d"}]
    assert any_describes(combinations, job.get) is left_out


def settings(folder: Path, leave_out: Any, mode: str = "MULTIRUN") -> DictConfig:
    """The config of a job of a sweep."""
    config = composed("calibrate", folder, "model=vgg16", "pipeline=lcp", "T=4", f"hydra.mode={mode}")
    with open_dict(config):
        config.leave_out = OmegaConf.create(leave_out) if isinstance(leave_out, list) else leave_out
    return config


@pytest.mark.parametrize(
    ("leave_out", "left_out"),
    [
        ([], False),
        ([{"model": "vgg16"}], True),
        ([{"model": ["resnet20", "vgg16"], "pipeline": "lcp", "T": [2, 4]}], True),
        ([{"model": "vgg16", "pipeline.rounding": "floor"}], False),
        ([{"pipeline.rounding": "potential"}], True),
    ],
)
def test_groups_and_settings_are_named_as_on_the_command_line(
    hydra: Path, leave_out: list[Any], left_out: bool
) -> None:
    assert is_left_out(settings(hydra, leave_out)) is left_out


def test_a_run_that_is_no_sweep_is_never_left_out(hydra: Path) -> None:
    assert not is_left_out(settings(hydra, [{"model": "vgg16"}], "RUN"))


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        ([{"modle": "vgg16"}], "leave_out has 'modle', which this config hasn't"),
        ([{}], r"leave_out must be a list such as .*, got \[\{\}\]"),
        (["vgg16"], r"leave_out must be a list such as .*, got \['vgg16'\]"),
        ("vgg16", "leave_out must be a list such as .*, got 'vgg16'"),
    ],
)
def test_nonsense_is_refused(hydra: Path, leave_out: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        is_left_out(settings(hydra, leave_out))
