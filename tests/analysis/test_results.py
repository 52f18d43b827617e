import json
import math
import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from snn_lightning.analysis.results import percent, read_results, results_table, write_results
from snn_lightning.errors import CheckpointError

RESULTS = {
    "model": "resnet20",
    "data": "digits",
    "ann_accuracy": 0.98765,
    "uncalibrated_accuracy": 0.5,
    "snn_accuracy": 0.97,
    "accuracy_over_time": [0.25, 0.97],
    "spikes_per_image": 1234.5,
    "firing_rate": 0.12,
    "synaptic_operations": 2.5e6,
    "energy_ratio": 0.1234,
    "timesteps": 2,
    "seconds": {"ann_test": 0.24, "calibration": 12.06},
}


def shown(results: dict) -> list[list[str]]:
    console = Console(file=StringIO(), width=100)
    console.print(results_table(results))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


def test_the_time_steps_of_an_inference_are_shown_where_they_are_more_than_t() -> None:
    assert ["time steps of an inference", "28"] in shown({**RESULTS, "latency_steps": 28})
    assert shown({**RESULTS, "latency_steps": 2}) == shown(RESULTS)


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, RESULTS)
    assert read_results(path) == RESULTS
    assert json.loads(path.read_text()) == RESULTS
    assert os.listdir(path.parent) == ["results.json"]


def test_what_is_no_finite_number_is_null(tmp_path: Path) -> None:
    path, stage = tmp_path / "results.json", {"error": math.inf, "steps": {"bias": {"before": math.nan}}}
    given = {"snn_miou": math.nan, "miou_over_time": (-math.inf, 0.5), "stages": [stage], "times": {4: 1}}
    write_results(path, given)
    whole = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (
        whole
        == read_results(path)
        == {
            "snn_miou": None,
            "miou_over_time": [None, 0.5],
            "stages": [{"error": None, "steps": {"bias": {"before": None}}}],
            "times": {"4": 1},
        }
    )
    assert math.isnan(given["snn_miou"])


def test_nan_of_older_versions_is_read_as_none(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"snn_accuracy": NaN, "accuracy_over_time": [-Infinity, 0.5]}')
    results = read_results(tmp_path / "results.json")
    assert results == {"snn_accuracy": None, "accuracy_over_time": [None, 0.5]}
    assert shown(results) == [["SNN accuracy after t=1", "–"], ["SNN accuracy after t=2", "50.00 %"]]


def test_a_path_is_written_as_text(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", {"checkpoint": Path("a/b.ckpt")})
    assert read_results(tmp_path / "results.json") == {"checkpoint": "a/b.ckpt"}


def test_results_that_can_not_be_written_leave_the_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, RESULTS)
    circle: dict = {}
    circle["circle"] = circle
    with pytest.raises(ValueError, match="Circular"):
        write_results(path, circle)
    assert read_results(path) == RESULTS


@pytest.mark.parametrize("content", ["{", "", "[1, 2]", '"text"'])
def test_what_is_no_results_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"results\.json' is no results file.*delete it or run its job"):
        read_results(path)


def test_missing_results(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run its job again"):
        read_results(tmp_path / "results.json")


def test_the_table_of_a_calibration() -> None:
    assert shown(RESULTS) == [
        ["ANN accuracy", "98.77 %"],
        ["uncalibrated SNN accuracy, T=2", "50.00 %"],
        ["SNN accuracy, T=2", "97.00 %"],
        ["spikes an image", "1.23 k"],
        ["synaptic operations an image", "2.50 M"],
        ["estimated energy, of the ANN's", "12.34 %"],
        ["SNN accuracy after t=1", "25.00 %"],
        ["SNN accuracy after t=2", "97.00 %"],
        ["seconds, ANN test", "0.2"],
        ["seconds, calibration", "12.1"],
    ]


def test_the_table_of_a_training_has_no_snn() -> None:
    results = {"model": "vgg16", "data": "digits", "ann_accuracy": 1.0, "seconds": {"pretrain": 3.0}}
    assert shown(results) == [["ANN accuracy", "100.00 %"], ["seconds, pretrain", "3.0"]]


def test_an_accuracy_of_nothing_is_shown() -> None:
    assert shown({**RESULTS, "ann_accuracy": 0.0})[0] == ["ANN accuracy", "0.00 %"]


@pytest.mark.parametrize(("fraction", "text"), [(0, "0.00 %"), (1, "100.00 %"), (0.123456, "12.35 %")])
def test_percent(fraction: float, text: str) -> None:
    assert percent(fraction) == text
