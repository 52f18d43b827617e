"""Seconds by step, bytes a T, and scores by calibration images, of runs made by hand."""

from typing import Any

import pytest

from snn_lightning.report.compare.complexity import (
    bytes_table,
    images_tables,
    missing,
    scores_by_images,
    seconds_table,
    tables,
)
from snn_lightning.report.compare.methods import Mean, by_images
from snn_lightning.report.compare.tables import all_numbers, summary
from tests.report.compare.made import panels_of, results


def timed(pipeline: str, timesteps: int = 4, seed: int = 0, **steps: float) -> dict[str, Any]:
    seconds = {"calibration": 10.0}
    return results(pipeline, timesteps, seed, seconds=seconds, seconds_by_step=steps)


def sized(pipeline: str, timesteps: int, **kinds: int) -> dict[str, Any]:
    counted = dict.fromkeys(("thresholds", "biases", "potentials", "weights"), 0)
    return results(pipeline, timesteps, parameter_bytes={**counted, **kinds})


def with_images(
    images: int, snn: float, name: str = "lcp", /, seed: int = 0, timesteps: int = 4, **more: Any
) -> dict[str, Any]:
    config = {"data": {"calibration_images": images}, **more}
    return results(name, timesteps, seed, snn, config=config)


def shown(found: list[Any]) -> list[list[str]]:
    ((_, table),) = found
    return [list(table.columns), *table.shown]


RUNS = [
    timed("lcp", 4, 0, observe=0.5, threshold=1.0, bias=2.0, fire=0.25),
    timed("lcp", 4, 1, observe=0.5, threshold=1.0, bias=4.0, fire=0.25),
    timed("acp", 8, 0, observe=0.5, threshold=1.0, weights=100.0, potential=3.0, fire=0.5),
]


def test_seconds_of_each_step() -> None:
    (panel,) = panels_of(*RUNS)
    assert seconds_table(panel)[0][0] == "resnet20 on digits: seconds of the calibration's steps"
    assert shown(seconds_table(panel)) == [
        [
            *("pipeline", "T", "seeds", "observe", "threshold", "bias", "weights", "potential", "fire"),
            "calibration,\nin all",
        ],
        [
            "lcp",
            "4",
            "2",
            "0.500 ± 0.000",
            "1.00 ± 0.00",
            "3.00 ± 1.41",
            "–",
            "–",
            "0.250 ± 0.000",
            "10.0 ± 0.0",
        ],
        ["acp", "8", "1", "0.500", "1.00", "–", "100", "3.00", "0.500", "10.0"],
    ]


def test_bytes_of_several_t_and_their_sum() -> None:
    runs = [
        sized("lcp", 4, thresholds=80, biases=1000),
        sized("lcp", 8, thresholds=80, biases=1000),
        sized("acp", 4, thresholds=80, potentials=2_000_000, weights=83_250_000),
        sized("baseline", 8, thresholds=80),
        results("spike_norm", 4),
    ]
    (panel,) = panels_of(*runs)
    assert shown(bytes_table(panel)) == [
        ["pipeline", "parameters", "T=4", "T=8", "all T"],
        ["lcp", "thresholds", "80 B", "80 B", "160 B"],
        ["lcp", "biases", "1.00 kB", "1.00 kB", "2.00 kB"],
        ["lcp", "in all", "1.08 kB", "1.08 kB", "2.16 kB"],
        ["acp", "thresholds", "80 B", "–", "80 B"],
        ["acp", "potentials", "2.00 MB", "–", "2.00 MB"],
        ["acp", "weights", "83.2 MB", "–", "83.2 MB"],
        ["acp", "in all", "85.3 MB", "–", "85.3 MB"],
        ["baseline", "thresholds", "–", "80 B", "80 B"],
        ["spike_norm", "–", "–", "–", "–"],
    ]


def test_a_sum_over_t_is_of_all_of_them_or_not_there() -> None:
    (panel,) = panels_of(sized("lcp", 4, thresholds=80), results("lcp", 8))
    assert shown(bytes_table(panel))[1] == ["lcp", "thresholds", "80 B", "–", "–"]


def test_a_single_t_has_no_sum() -> None:
    (panel,) = panels_of(sized("lcp", 4, thresholds=80))
    assert shown(bytes_table(panel)) == [["pipeline", "parameters", "T=4"], ["lcp", "thresholds", "80 B"]]


def test_runs_of_older_versions_have_no_table_and_are_named() -> None:
    found = panels_of(results("lcp"), results("acp"))
    assert tables(found[0]) == []
    assert list(missing(found)) == [
        "resnet20 on digits, lcp, acp: there are results without seconds by step or bytes of parameters, as "
        "runs of older versions leave them."
    ]
    known: dict[str, Any] = {"seconds_by_step": {"fire": 1.0}, "parameter_bytes": {"thresholds": 4}}
    found = panels_of(results("lcp", **known), results("acp", seed=0, **known), results("acp", seed=1))
    assert [note.partition(":")[0] for note in missing(found)] == ["resnet20 on digits, acp"]
    assert list(missing(panels_of(results("lcp", **known)))) == []


def test_scores_by_images_over_seeds() -> None:
    runs = [
        with_images(64, 0.70),
        with_images(64, 0.74, seed=1),
        with_images(128, 0.80),
        with_images(64, 0.75, "acp"),
        with_images(256, 0.875, "acp"),
    ]
    (panel,) = panels_of(*runs)
    found = scores_by_images(panel, 4)
    assert found["acp"] == {64: Mean(0.75, None), 256: Mean(0.875, None)}
    assert (found["lcp"][64].mean, found["lcp"][64].deviation) == pytest.approx((0.72, 0.0282843), abs=1e-7)
    assert shown(images_tables(panel)) == [
        ["method", "64 images", "128 images", "256 images"],
        ["lcp", "72.00 ± 2.83", "80.00", "–"],
        ["acp", "75.00", "–", "87.50"],
    ]
    assert images_tables(panel)[0][0] == ("resnet20 on digits: accuracy against calibration images, T=4, %")


def test_each_t_has_a_table_of_its_own() -> None:
    runs = [with_images(n, 0.5, timesteps=t) for n in (64, 128) for t in (4, 8)]
    (panel,) = panels_of(*runs, with_images(64, 0.5, timesteps=16))
    assert [caption.partition("images, ")[2] for caption, _ in images_tables(panel)] == ["T=4, %", "T=8, %"]


def test_a_setting_that_follows_the_number_of_images_tells_nothing_apart() -> None:
    """As in experiment=pc_table6; `lcp` has no weights at all."""
    runs = [
        with_images(n, 0.5, name, paper={"images": n}, pipeline={step: {"images": n}})
        for n in (64, 128)
        for name, step in (("lcp", "bias"), ("acp", "weights"))
    ]
    (panel,) = panels_of(*runs)
    assert {label: list(found) for label, found in by_images(panel).items()} == {
        "lcp": [64, 128],
        "acp": [64, 128],
    }


def test_a_setting_that_is_the_number_once_tells_methods_apart() -> None:
    runs = [
        with_images(64, 0.5, pipeline={"bias": {"repeats": 1, "images": 64}}),
        with_images(64, 0.6, pipeline={"bias": {"repeats": 1}}),
        with_images(128, 0.7, pipeline={"bias": {"repeats": 1}}),
    ]
    (panel,) = panels_of(*runs)
    assert {label: list(found) for label, found in by_images(panel).items()} == {
        "lcp, images=64": [64],
        "lcp": [64, 128],
    }


def test_other_settings_stay_in_the_label() -> None:
    runs = [with_images(n, 0.5, kernel=kernel) for n in (128, 64) for kernel in ("a", "b")]
    (panel,) = panels_of(*runs)
    assert {label: list(found) for label, found in by_images(panel).items()} == {
        "lcp, kernel=a": [64, 128],
        "lcp, kernel=b": [64, 128],
    }


def test_runs_that_all_have_as_many_images() -> None:
    (panel,) = panels_of(with_images(64, 0.5), with_images(64, 0.6, "acp"))
    assert by_images(panel) == {}
    assert tables(panel) == []


def test_numbers_for_programs() -> None:
    known: dict[str, Any] = {
        "seconds_by_step": {"bias": 1.5},
        "parameter_bytes": {"thresholds": 80, "biases": 0},
    }
    found = panels_of(results("lcp", **known), results("acp"))
    names = list(all_numbers(found).columns)
    assert names[-6:] == [
        *("seconds_bias", "seconds_bias_deviation", "bytes_thresholds", "bytes_thresholds_deviation"),
        *("bytes_biases", "bytes_biases_deviation"),
    ]
    lcp, acp = all_numbers(found).rows
    assert lcp[-6:] == [1.5, None, 80, None, 0, None]
    assert acp[-6:] == [None] * 6
    assert summary(found)[0]["bytes_thresholds"] == {4: [80, None]}
    assert summary(found)[1]["seconds_bias"] == {4: None}
