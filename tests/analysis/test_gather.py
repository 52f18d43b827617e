import json
import math
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from snn_lightning.analysis import gather
from snn_lightning.analysis.gather import find_results, mean_and_deviation, summarise, summary_table
from snn_lightning.analysis.results import write_results
from snn_lightning.errors import CheckpointError


def row(pipeline: str, timesteps: int, seed: int, snn: float, ann: float | None = 0.9) -> dict:
    head = {"model": "resnet20", "data": "digits", "pipeline": pipeline, "timesteps": timesteps, "seed": seed}
    return {**head, "snn_accuracy": snn, "ann_accuracy": ann}


ROWS = [
    row("acp", 4, 0, 0.80, 0.90),
    row("acp", 4, 1, 0.84, 0.94),
    row("acp", 4, 2, 0.85, 0.92),
    row("acp", 8, 0, 0.90, 0.90),
    row("lcp", 4, 0, 0.70, 0.90),
]


def cells(rows: list[dict]) -> list[list[str]]:
    console = Console(file=StringIO(), width=120)
    console.print(summary_table(summarise(rows)))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    kept = [line.replace("┃", "│") for line in lines if line[:1] in "┃│"]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in kept]


def test_mean_and_deviation() -> None:
    assert mean_and_deviation([2.0, 4.0, 9.0]) == (5.0, pytest.approx(math.sqrt((9 + 1 + 16) / 2)))
    assert mean_and_deviation([0.5]) == (0.5, 0.0)
    assert mean_and_deviation([0.5, 0.5]) == (0.5, 0.0)


def test_a_summary_groups_over_seeds() -> None:
    summary = summarise(ROWS)
    assert list(summary) == [("resnet20", "digits", "acp"), ("resnet20", "digits", "lcp")]
    acp = summary["resnet20", "digits", "acp"]
    assert acp["seeds"] == 3
    assert acp["ann"] == pytest.approx((0.92, 0.02))
    assert list(acp["snn"]) == [4, 8]
    assert acp["snn"][4] == pytest.approx((0.83, math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 2)))
    assert acp["snn"][8] == (0.90, 0.0)
    assert summary["resnet20", "digits", "lcp"] == {"ann": (0.9, 0.0), "snn": {4: (0.7, 0.0)}, "seeds": 1}


def test_a_second_run_of_a_seed_replaces_the_first() -> None:
    summary = summarise([row("acp", 4, 0, 0.1), row("acp", 4, 1, 0.3), row("acp", 4, 0, 0.5)])
    assert summary["resnet20", "digits", "acp"]["snn"] == {4: (0.4, pytest.approx(math.sqrt(0.02)))}


def test_other_models_and_data_are_rows_of_their_own() -> None:
    rows = [row("acp", 4, 0, 0.5), {**row("acp", 4, 0, 0.5), "model": "vgg16"}]
    rows.append({**row("acp", 4, 0, 0.5), "data": "cifar10"})
    assert len(summarise(rows)) == 3


def test_an_ann_that_was_not_tested() -> None:
    assert summarise([row("acp", 4, 0, 0.5, None)])["resnet20", "digits", "acp"]["ann"] is None
    assert cells([row("acp", 4, 0, 0.5, None)])[1][4] == "-"


def test_the_table() -> None:
    assert cells(ROWS) == [
        ["model", "data", "pipeline", "seeds", "ANN", "T=4", "T=8"],
        ["resnet20", "digits", "acp", "3", "92.00 ± 2.00", "83.00 ± 2.65", "90.00 ± 0.00"],
        ["resnet20", "digits", "lcp", "1", "90.00 ± 0.00", "70.00 ± 0.00", "-"],
    ]


def save(folder: Path, rows: list[dict]) -> None:
    for index, results in enumerate(rows):
        write_results(folder / str(index) / "results.json", results)


def test_results_are_found_at_any_depth_and_trainings_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b", ROWS)
    write_results(tmp_path / "results.json", {"model": "resnet20", "ann_accuracy": 0.9})
    write_results(tmp_path / "tested" / "results.json", {"timesteps": 4, "snn_accuracy": 0.9})
    assert find_results(tmp_path) == ROWS


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_folder_without_results(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"no results\.json of a calibration below .*name the sweep's"):
        find_results(tmp_path / name)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, ROWS)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["gather", str(tmp_path)])
    gather.main()
    shown = capsys.readouterr().out
    assert "83.00 ± 2.65" in shown
    assert f"{tmp_path / 'summary.json'}" in shown.replace("\n", "")
    acp, lcp = json.loads((tmp_path / "summary.json").read_text())
    head = {"model": "resnet20", "data": "digits", "pipeline": "lcp", "seeds": 1}
    assert lcp == {**head, "ann": [0.9, 0.0], "snn": {"4": [0.7, 0.0]}}
    assert acp["snn"]["4"] == pytest.approx([0.83, 0.0264575], abs=1e-6)


@pytest.mark.parametrize("content", [None, "{"])
def test_the_command_without_results_fails_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["gather", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        gather.main()
    assert stopped.value.code == 1
    assert "results.json" in capsys.readouterr().err
    assert not (tmp_path / "summary.json").exists()
