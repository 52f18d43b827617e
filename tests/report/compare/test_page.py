import csv
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from snn_lightning.report.compare.page import write_comparison
from tests.report.compare.made import ROWS, panels_of, results, stage

STAGES = [stage("relu", 0.1), stage("head", 0.3, "readout")]


def measured(*names: object, **others: object) -> dict:
    over_time = [0.25 * t for t in range(4)]
    more = {"energy_ratio": 0.25, "stages": STAGES, "accuracy_over_time": over_time}
    return results(*names, **{**more, **others})  # type: ignore[arg-type]


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*)</h2>", page)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "compare.html"


def test_all_charts_and_their_numbers(path: Path) -> None:
    rows = [
        measured("lcp", 4, 0, 0.5),
        measured("lcp", 4, 1, 0.75),
        measured("lcp", 8, 0, 0.75),
        measured("acp"),
    ]
    page = write_comparison(path, panels_of(*rows), []).read_text()
    assert headings(page) == [
        "Accuracy",
        "Accuracy against T",
        "Accuracy against energy",
        "Accuracy over time",
        "Error by site",
    ]
    folder = path.parent / "compare"
    assert rows_of(folder / "score.csv") == [
        ["T", "method", "accuracy", "deviation"],
        ["4", "lcp", "0.625", "0.1767766952966369"],
        ["8", "lcp", "0.75", ""],
        ["4", "acp", "0.5", ""],
    ]
    assert rows_of(folder / "energy.csv")[:2] == [
        ["T", "method", "energy", "its deviation", "accuracy", "deviation"],
        ["4", "lcp", "0.25", "0.0", "0.625", "0.1767766952966369"],
    ]
    assert rows_of(folder / "over_time_4.csv")[-1] == ["4", "0.75", "0.75"]
    assert rows_of(folder / "errors_4.csv") == [
        ["site", "lcp", "acp"],
        ["relu", "0.1", "0.1"],
        ["head", "0.3", "0.3"],
    ]
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        re.findall(r'href="compare/([^"]+)"', page)
    )


def test_what_no_run_knows_has_no_section(path: Path) -> None:
    page = write_comparison(path, panels_of(results()), []).read_text()
    assert headings(page) == ["Accuracy"]
    assert "<h1>Comparison of 1 run</h1>" in page
    assert "<svg" not in page
    assert not (path.parent / "compare").exists()


def test_panels_have_names_of_their_own(path: Path) -> None:
    detector = measured(model="retinanet", scores=["map50"], snn_map50=0.5, ann_map50=0.6)
    page = write_comparison(path, panels_of(measured(), detector), ["one is left out."]).read_text()
    assert headings(page)[0] == "resnet20 on digits: accuracy"
    assert headings(page)[-3:] == [
        "retinanet on digits: mAP50 against energy",
        "retinanet on digits: error by site",
        "Left out",
    ]
    assert "<li>one is left out.</li>" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_each_method_has_one_look_in_all_charts(path: Path) -> None:
    """The second of the methods has no run at T=4, and the third keeps its colour there."""
    rows = [measured("a", 4), measured("a", 8), measured("b", 8), measured("c", 4), measured("c", 8)]
    page = write_comparison(path, panels_of(*rows), []).read_text()
    charts = dict(re.findall(r'<svg[^>]*aria-labelledby="([\w-]+)-title"[^>]*>(.*?)</svg>', page, re.DOTALL))
    assert "--data-3" in charts["errors-4"]
    assert "--data-2" not in charts["errors-4"]
    assert "--data-2" in charts["errors-8"]


def test_names_are_escaped(path: Path) -> None:
    evil = '<script>alert("1")</script>&\x07'
    stages = [stage(evil, 0.1)]
    rows = [measured(evil, T, model=evil, data=evil, stages=stages) for T in (4, 8)]
    page = write_comparison(path, panels_of(*rows), [evil]).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_many_methods_and_sites(path: Path) -> None:
    stages = [stage(f"layer{i // 9}.{i}.relu", 0.1) for i in range(36)]
    configs = [{"data": {"calibration_images": images}} for images in range(6)]
    rows = [measured(config=config, stages=stages) for config in configs]
    page = write_comparison(path, panels_of(*rows), []).read_text()
    assert page.count("layer3.35.relu") == 1  # no table of so many columns
    assert len(rows_of(path.parent / "compare" / "errors_4.csv")[0]) == 1 + 6
    assert "calibration_images=5" in page


def test_numbers_that_no_logarithm_has(path: Path) -> None:
    rows = [measured(stages=[stage("relu", 0.0), stage("relu_1", float("nan"), 0.1)]), *ROWS[3:]]
    page = write_comparison(path, panels_of(*rows), []).read_text()
    assert "Error by site" in page


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    pages = [
        write_comparison(tmp_path / str(i) / "compare.html", panels_of(measured(), measured("acp")), [])
        for i in (0, 1)
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes()


STEPS = {"observe": 0.25, "threshold": 0.5, "bias": 1.0, "fire": 0.25}
BYTES = {"thresholds": 80, "biases": 100, "potentials": 0, "weights": 0}


def test_complexity_has_sections_and_numbers(path: Path) -> None:
    rows = [
        results(
            "lcp",
            T,
            snn=0.25 + T / 100 + n / 1000,
            seconds_by_step=STEPS,
            parameter_bytes=BYTES,
            config={"data": {"calibration_images": n}},
        )
        for T in (4, 8)
        for n in (64, 128)
    ]
    page = write_comparison(path, panels_of(*rows), []).read_text()
    assert headings(page) == [
        "Accuracy",
        "Accuracy against T",
        "Accuracy against calibration images",
        "Seconds of the calibration&#39;s steps",
        "Bytes to be stored for a T",
    ]
    folder = path.parent / "compare"
    assert rows_of(folder / "images_8.csv") == [
        ["images", "method", "accuracy"],
        ["64", "lcp", str(0.25 + 8 / 100 + 64 / 1000)],
        ["128", "lcp", str(0.25 + 8 / 100 + 128 / 1000)],
    ]
    seconds = rows_of(folder / "seconds.csv")
    assert seconds[:2] == [
        ["method", "T", "step", "seconds", "deviation"],
        ["lcp, calibration_images=64", "4", "observe", "0.25", ""],
    ]
    assert len(seconds) == 1 + 4 * 4
    (chart,) = re.findall(r'<svg[^>]*aria-labelledby="seconds-by-step-title".*?</svg>', page, re.DOTALL)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
    assert {"lcp, calibration_images=64", "T=4", "T=8", *STEPS} <= set(texts)
    assert texts.count("2") == 4  # the sums
    assert "180 B" in page
    assert "360 B" in page


def test_names_of_steps_and_methods_are_escaped_in_the_bars(path: Path) -> None:
    evil = "<script>&\x07"
    rows = [results(evil * 20, seconds_by_step={evil: 1.0}), results("lcp", seconds_by_step={"fire": 0.0})]
    page = write_comparison(path, panels_of(*rows), []).read_text()
    assert "<script" not in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_more_steps_than_colours(path: Path) -> None:
    steps = {f"step_{i}": 1.0 for i in range(10)}
    page = write_comparison(path, panels_of(results(seconds_by_step=steps)), []).read_text()
    assert len(re.findall(r"<text[^>]*>step_\d</text>", page)) == 10
