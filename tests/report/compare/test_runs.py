import math
from pathlib import Path
from typing import Any

import pytest

from snn_lightning.analysis.results import write_results
from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.report.compare.methods import Mean, panels
from snn_lightning.report.compare.runs import Run, find_runs
from tests.report.compare.made import ROWS, panels_of, results, save, stage


def test_runs_are_found_at_any_depth_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    rows = [results(seed=seed) for seed in range(11)]
    save(tmp_path / "a" / "b", *rows)
    runs, notes = find_runs([tmp_path])
    assert [run.results for run in runs] == rows
    assert notes == []


def test_folders_files_and_what_is_named_twice(tmp_path: Path) -> None:
    paths = save(tmp_path, *ROWS)
    runs, _ = find_runs([paths[3], paths[1].parent, tmp_path])
    assert [run.results for run in runs] == [ROWS[i] for i in (3, 1, 0, 2, 4)]


def test_what_has_no_results_is_named(tmp_path: Path) -> None:
    save(tmp_path / "sweep", ROWS[0])
    (tmp_path / "sweep" / "7" / ".hydra").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    write_results(tmp_path / "trained" / "results.json", {"model": "resnet20", "ann_accuracy": 0.9})
    write_results(tmp_path / "tested" / "results.json", {"timesteps": 4, "snn_accuracy": 0.9})
    runs, notes = find_runs([tmp_path / name for name in ("sweep", "empty", "trained", "tested")])
    assert len(runs) == 1
    no_calibration = "is left out: it is of no calibration, but of a training or a test."
    unfinished = "is left out: there is no results.json, so the run has failed, goes on or was a dry run."
    assert notes == [
        f"{tmp_path / 'sweep' / '7'} {unfinished}",
        f"{tmp_path / 'empty'} is left out: there is no results.json in it.",
        f"{tmp_path / 'trained' / 'results.json'} {no_calibration}",
        f"{tmp_path / 'tested' / 'results.json'} {no_calibration}",
    ]


ENERGY = {"_target_": "snn_lightning.EnergyModel", "mac": 4.6, "ac": 0.9, "spike": 0.0, "weight": 0.0}
"""The prices of runs that name none."""


def test_settings_have_no_seeds_places_and_machines() -> None:
    config = {
        "seed": 3,
        "T": 4,
        "report": False,
        "logger": {"csv": {"save_dir": "outputs"}},
        "analog": [],
        "activation": {},
        "data": {"seed": 5, "calibration_images": 64, "train_images": None},
        "trainer": {"devices": 2, "default_root_dir": "outputs", "max_epochs": 4},
        "pipeline": {"timesteps": 4, "seed": 3, "weights": {"iterations": 10, "seed": 4}},
    }
    run = Run(Path("results.json"), results(seed=3, config=config), 0.0)
    assert run.settings == {
        "energy": ENERGY,
        "data": {"calibration_images": 64},
        "trainer": {"max_epochs": 4},
        "pipeline": {"weights": {"iterations": 10}},
    }
    assert run.seeds == ("3", "3", "5", "3", "4")


def test_runs_at_other_prices_of_energy_are_another_method() -> None:
    dear = {"energy": {**ENERGY, "weight": 5.0}}
    old, new = (
        results(seed=seed, energy_ratio=0.25, config=given)
        for seed, given in ((0, {}), (1, {"energy": ENERGY}))
    )
    other = results(seed=2, energy_ratio=0.5, config=dear)
    (panel,) = panels_of(old, new, other)
    assert panel.settings == ["energy.weight"]
    assert [(m.label, m.seeds, m.mean("energy_ratio", 4).mean) for m in panel.methods] == [
        ("lcp, weight=0", "2", 0.25),
        ("lcp, weight=5", "1", 0.5),
    ]


def test_a_whole_number_is_the_same_setting_with_and_without_a_point() -> None:
    rows = [
        results(
            seed=seed, config={"energy": {**ENERGY, "weight": weight}, "grid": [weight, {"from": weight}]}
        )
        for seed, weight in enumerate((5, 5.0))
    ]
    (panel,) = panels_of(*rows)
    assert (panel.settings, [method.seeds for method in panel.methods]) == ([], ["2"])
    assert panel.methods[0].runs[4][1].settings["grid"] == [5, {"from": 5}]


def test_a_score_that_is_no_number_is_left_out_and_named(tmp_path: Path) -> None:
    nothing = results("acp", snn=math.nan, accuracy_over_time=[math.nan, 0.5])
    paths = save(tmp_path, nothing, results("lcp", accuracy_over_time=[math.nan, 0.5]))
    (panel,), notes = panels(find_runs([tmp_path])[0])
    assert notes == [f"{paths[0]} is left out: it has no accuracy."]
    assert [method.pipeline for method in panel.methods] == ["lcp"]
    assert panel.methods[0].over_time("accuracy", 4) == {1: None, 2: Mean(0.5, None)}


def test_scores_that_are_no_numbers_in_any_run(tmp_path: Path) -> None:
    save(tmp_path, results(snn=math.nan))
    runs, _ = find_runs([tmp_path])
    with pytest.raises(SettingsError, match="No run has a number as its accuracy: look at the outputs"):
        panels(runs)


def test_settings_have_no_sources_where_there_is_but_one() -> None:
    def run(**config: Any) -> Run:
        return Run(Path("results.json"), results(config={"T": 4, "seed": 3, **config}), 0.0)

    synthesis = {"_target_": "snn_lightning.Synthesis", "iterations": 400, "seed": 3}
    real = run(data_source="real", path=None, skip_unreadable=False, synthesis=synthesis)
    assert (real.settings, real.seeds) == (run().settings, run().seeds) == ({"energy": ENERGY}, ("0", "3"))
    assert run(data_source="folder", path="photos", synthesis=synthesis).settings == {
        "energy": ENERGY,
        "data_source": "folder",
        "path": "photos",
    }
    made = run(data_source="noise+synthetic", synthesis=synthesis)
    kept = {"_target_": "snn_lightning.Synthesis", "iterations": 400}
    assert made.settings == {"energy": ENERGY, "data_source": "noise+synthetic", "synthesis": kept}
    assert made.seeds == ("0", "3", "3")


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no results\.json of a calibration in .*name folders of runs"):
        find_runs([tmp_path])
    with pytest.raises(SettingsError, match=r"There is no '.*missing': name folders of runs or sweeps"):
        find_runs([tmp_path / "missing"])


def test_a_run_that_failed_is_named_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    with pytest.raises(CheckpointError, match="so the run has failed"):
        find_runs([tmp_path])


def test_a_file_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"results\.json' is no results file .*run its job again"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": 3}, "model is 3"),
        ({"data": None}, "data is None"),
        ({"timesteps": "4"}, "timesteps is '4'"),
        ({"snn_accuracy": "high"}, "snn_accuracy is 'high'"),
        ({"scores": []}, r"scores is \[\]"),
        ({"scores": "map"}, "scores is 'map'"),
        ({"energy_ratio": True}, "energy_ratio is True"),
        ({"config": [1]}, "config is no dict"),
        ({"seconds": 3}, "seconds is no dict"),
        ({"seconds": {"calibration": "3 s"}}, "seconds.calibration is '3 s'"),
        ({"accuracy_over_time": "abc"}, "accuracy_over_time is no list of numbers"),
        ({"accuracy_over_time": [0.1, "x"]}, "accuracy_over_time is no list of numbers"),
        ({"times": 3}, "times is no list of numbers"),
        ({"stages": [{**stage("relu", 0.1, 0.1), "error": "small"}]}, "a stage lacks"),
        ({"stages": [{**stage("relu", 0.1, 0.1), "steps": None}]}, "a stage lacks"),
        ({"stages": [{"name": "relu"}]}, "a stage lacks its name, kind, error or steps"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: dict, message: str) -> None:
    save(tmp_path, {**results(), **change})
    with pytest.raises(CheckpointError, match=rf"0/results\.json' is damaged \({message}.*run its job again"):
        find_runs([tmp_path])
