from dataclasses import fields
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from snn_lightning import Synthesis
from snn_lightning.errors import SettingsError
from tests.composing import CONF


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("iterations", 0, "must be a whole number of at least 1, got 0"),
        ("batch_size", 0, "must be a whole number of at least 1, got 0"),
        ("learning_rate", 0, "must be a positive number, got 0"),
        ("total_variation", -1, "must be a number of at least 0, got -1"),
        ("l2", "much", "must be a number of at least 0, got 'much'"),
        ("diversity", float("nan"), "must be a number of at least 0, got nan"),
        ("mix", 1.1, r"must be in \[0, 1\], got 1.1"),
        ("shift", -1, "must be a whole number of at least 0, got -1"),
        ("flip", 1, "must be true or false, got 1"),
        ("start_size", 0, "must be a whole number of at least 1, got 0"),
        ("start_part", 1, r"must be in \[0, 1\), got 1"),
        ("seed", -1, "must be a whole number of at least 0, got -1"),
        ("statistics", "", "must be the path of a file or null, got ''"),
    ],
)
def test_a_wrong_value_names_its_field(field: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^synthesis.{field} {message}$"):
        Synthesis(**{field: value})


def test_the_yaml_states_the_defaults_of_the_code() -> None:
    settings = OmegaConf.load(CONF / "synthesis" / "default.yaml")
    settings.seed = 0
    assert list(settings)[1:] == [field.name for field in fields(Synthesis)]
    assert instantiate(settings) == Synthesis()
