"""The number that a sweeper optimises is one of results.json, and a wrong name is said before the work."""

from pathlib import Path

import pytest

from snn_lightning.cli.metric import metric
from snn_lightning.errors import SettingsError
from tests.commands import ACP, Finished, run

RESULTS = {
    "model": "vgg16",
    "snn_accuracy": 0.5,
    "converted_accuracy": None,
    "timesteps": 2,
    "accuracy_over_time": [0.25, 0.5],
    "seconds": {"calibration": 3.5},
    "stages": [{"name": "relu", "steps": {"bias": {"before": 0.1, "after": 0.05}}}],
    "config": {"trainer": {"max_epochs": 4}, "unit_spikes": False},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("snn_accuracy", 0.5),
        ("timesteps", 2.0),
        ("seconds.calibration", 3.5),
        ("accuracy_over_time.1", 0.5),
        ("stages.0.steps.bias.after", 0.05),
        ("config.trainer.max_epochs", 4.0),
    ],
)
def test_any_number_has_a_name(name: str, value: float) -> None:
    found = metric(RESULTS, name)
    assert found == value
    assert type(found) is float


@pytest.mark.parametrize(
    "name", ["model", "converted_accuracy", "seconds", "accuracy_over_time.2", "config.unit_spikes", "", None]
)
def test_what_is_no_number_is_refused_with_those_there_are(name: str) -> None:
    numbers = (
        r"There are snn_accuracy, timesteps, accuracy_over_time\.N, seconds\.calibration, "
        r"stages\.N\.steps\.bias\.before, stages\.N\.steps\.bias\.after \(N counts from 0\)"
    )
    with pytest.raises(SettingsError, match=f"optimized_metric={name}: .*{numbers}"):
        metric(RESULTS, name)


def listed(output: str) -> set[str]:
    """The numbers that the message names."""
    return set(output.partition("There are ")[2].partition(" (N counts")[0].split(", "))


@pytest.mark.parametrize("script", ["train.py", "calibrate.py"])
def test_a_wrong_name_is_said_before_pretraining_with_the_numbers_the_run_will_have(
    calibrated: Finished, trained: Finished, tmp_path: Path, script: str
) -> None:
    overrides = [o for o in ACP if script == "calibrate.py" or not o.startswith(("T=", "pipeline"))]
    done = run(tmp_path, *overrides, "optimized_metric=accuracy", cache=tmp_path / "cache", script=script)
    assert done.code == 1
    assert "Error: optimized_metric=accuracy: the results of this run have no such number." in done.output
    assert "Pretraining" not in done.output
    results = (calibrated if script == "calibrate.py" else trained).results
    with pytest.raises(SettingsError) as later:
        metric({**results, "stages": [], "seconds_by_step": {}}, "accuracy")
    assert listed(done.output) == listed(str(later.value))
    assert {"seed", "ann_accuracy", "seconds.pretrain", "seconds.ann_test"} <= listed(done.output)


def test_a_wrong_name_is_said_before_a_test_of_an_snn(calibrated: Finished, tmp_path: Path) -> None:
    overrides = ["trainer=cpu", f"ckpt={calibrated.folder / 'snn.ckpt'}", "optimized_metric=ann_accuracy"]
    done = run(tmp_path, *overrides, cache=tmp_path / "cache")
    assert done.code == 1
    assert "Testing" not in done.output
    assert {"snn_accuracy", "accuracy_over_time.N", "seconds.snn_test"} <= listed(done.output)
