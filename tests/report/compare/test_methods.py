import math
from typing import Any

import pytest

from snn_lightning.errors import SettingsError
from snn_lightning.report.compare.methods import Mean, panels
from snn_lightning.report.compare.runs import find_runs
from tests.report.compare.made import ROWS, panels_of, results, save, stage


def test_mean_and_sample_deviation() -> None:
    assert Mean.of([2.0, 4.0, 9.0]) == Mean(5.0, pytest.approx(math.sqrt((9 + 1 + 16) / 2)))
    assert Mean.of([0.5, None, 0.5]) == Mean(0.5, 0.0)
    assert Mean.of([0.5]) == Mean(0.5, None)
    assert Mean.of([None]) is None


def test_runs_that_differ_in_seed_and_time_steps_are_a_method() -> None:
    (panel,) = panels_of(*ROWS)
    lcp, acp = panel.methods
    assert (panel.title, panel.settings, panel.timesteps) == ("resnet20 on digits", [], [4, 8])
    assert (lcp.label, lcp.seeds, list(lcp.runs)) == ("lcp", "1", [4])
    assert (acp.label, acp.seeds, list(acp.runs)) == ("acp", "1–3", [4, 8])
    assert acp.mean("snn_accuracy", 4) == Mean(pytest.approx(0.83), pytest.approx(math.sqrt(14 / 2) / 100))
    assert acp.mean("snn_accuracy", 8) == Mean(0.9, None)
    assert acp.mean("snn_accuracy", 16) is None
    # The ANN of a seed counts once, whatever the number of T.
    assert acp.ann("accuracy") == Mean(pytest.approx(0.92), pytest.approx(0.02))


def test_the_newest_of_equal_runs_counts(tmp_path) -> None:
    save(tmp_path, results(seed=0, snn=0.1), results(seed=1, snn=0.3), results(seed=0, snn=0.5))
    runs, _ = find_runs([tmp_path])
    (panel,), notes = panels(runs)
    assert panel.methods[0].mean("snn_accuracy", 4) == Mean(0.4, pytest.approx(math.sqrt(0.02)))
    old, new = (tmp_path / str(i) / "results.json" for i in (0, 2))
    assert notes == [f"{old} is left out: {new} has the same settings and seed, and is newer."]


def test_other_settings_are_other_methods() -> None:
    few, many = ({"data": {"calibration_images": images, "seed": 0}} for images in (64, 128))
    (panel,) = panels_of(results(config=few), results(config=many), results(seed=1, config=many))
    assert panel.settings == ["data.calibration_images"]
    assert [method.label for method in panel.methods] == [
        "lcp, calibration_images=64",
        "lcp, calibration_images=128",
    ]
    assert [method.seeds for method in panel.methods] == ["1", "2"]


def test_sources_of_calibration_images_are_other_methods() -> None:
    def made(iterations: int, **source: str) -> dict[str, Any]:
        return results(config={**source, "synthesis": {"_target_": "a.Synthesis", "iterations": iterations}})

    (panel,) = panels_of(
        results(config={}),
        made(400, data_source="synthetic"),
        made(800, data_source="synthetic"),
        made(400, data_source="folder", path="photos"),
    )
    assert [method.label for method in panel.methods] == [
        "lcp",
        "lcp, data_source=synthetic, iterations=400",
        "lcp, data_source=synthetic, iterations=800",
        "lcp, data_source=folder, path=photos",
    ]


def test_names_whose_last_parts_are_equal_are_whole_in_labels() -> None:
    configs = [{"a": {"x": a}, "b": {"x": b}} for a, b in ((1, 1), (1, 2), (2, 1))]
    (panel,) = panels_of(*(results(config=config) for config in configs))
    assert [method.label for method in panel.methods] == [
        "lcp, a.x=1, b.x=1",
        "lcp, a.x=1, b.x=2",
        "lcp, a.x=2, b.x=1",
    ]


def test_models_and_data_have_panels_of_their_own() -> None:
    found = panels_of(results(), results(model="vgg16"), results(data="cifar10"), results(seed=1))
    assert [panel.title for panel in found] == [
        "resnet20 on digits",
        "vgg16 on digits",
        "resnet20 on cifar10",
    ]
    assert found[0].methods[0].seeds == "2"


DETECTOR = results(model="retinanet", scores=["map50", "map"], snn_accuracy=None, snn_map50=0.4, snn_map=0.2)


def test_each_panel_has_its_first_score() -> None:
    assert [panel.score_title for panel in panels_of(results(), DETECTOR)] == ["accuracy", "mAP50"]


def test_another_score(tmp_path) -> None:
    save(tmp_path, results(), DETECTOR)
    (panel,), notes = panels(find_runs([tmp_path])[0], "map")
    assert (panel.model, panel.methods[0].mean("snn_map", 4)) == ("retinanet", Mean(0.2, None))
    assert notes == [f"{tmp_path / '0' / 'results.json'} is left out: it has no map."]


def test_a_score_that_no_run_has() -> None:
    with pytest.raises(SettingsError, match="unknown score: 'mup'; did you mean 'map'"):
        panels_of(results(), DETECTOR, score="mup")


def test_scores_over_time() -> None:
    rows = [results(timesteps=2, accuracy_over_time=[0.1, 0.3]), results(timesteps=2, seed=1)]
    rows.append(results(timesteps=2, seed=2, accuracy_over_time=[0.3, 0.3]))
    rows.append(results(timesteps=8, accuracy_over_time=[0.1, 0.3], times=[4, 8]))
    (panel,) = panels_of(*rows)
    (method,) = panel.methods
    assert method.over_time("accuracy", 2) == {
        1: Mean(0.2, pytest.approx(math.sqrt(0.02))),
        2: Mean(0.3, 0.0),
    }
    assert method.over_time("accuracy", 8) == {4: Mean(0.1, None), 8: Mean(0.3, None)}
    assert method.over_time("accuracy", 4) == {}


def test_errors_of_sites() -> None:
    stages = [
        stage("relu", 0.1),
        stage("head", 0.3, "readout"),
        stage("distillation", 1, "network"),
    ]
    other = [stage("relu", 0.3)]
    (panel,) = panels_of(results(stages=stages), results(seed=1, stages=other))
    deviation = pytest.approx(math.sqrt(0.02))
    assert panel.methods[0].errors(4) == {
        "relu": Mean(0.2, deviation),
        "head": Mean(0.3, None),
    }


def test_what_takes_more_than_t_steps_is_said(tmp_path) -> None:
    save(tmp_path, results(latency_steps=4), results("acp", latency_steps=80), results("best"))
    _, notes = panels(find_runs([tmp_path])[0])
    assert notes == ["resnet20 on digits, acp: an inference takes 80 time steps at T=4, T for each window."]
