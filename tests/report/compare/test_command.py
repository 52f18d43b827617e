import json
import runpy
import sys
from pathlib import Path

import pytest

from snn_lightning.report.compare.command import main
from tests.report.compare.made import ROWS, results, save


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["snn-compare", *arguments])
    main()


def test_the_command(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    save(here / "sweep", *ROWS)
    save(here / "[red]", results("acp[/]", 4, 0, 0.5))
    (here / "sweep" / "9" / ".hydra").mkdir(parents=True)
    run(monkeypatch, "sweep", "[red]")
    shown = capsys.readouterr().out
    # Wider than the terminal, and nothing is cut off.
    assert "│ acp      │   1–3 │ 92.00 ± 2.00 │ 83.00 ± 2.65 │ 90.00 │" in shown
    assert "│ acp[/]   │     1 │        90.00 │        50.00 │     – │" in shown
    assert "Note: sweep/9 is left out: there is no results.json" in shown
    assert "Comparison: comparison/compare.html" in shown
    files = {path.name for path in (here / "comparison").iterdir()}
    assert files == {"compare", "compare.html", "summary.json", "table.csv", "table.md", "table.tex"}
    assert "| acp | 1–3 | 92.00 ± 2.00 |" in (here / "comparison" / "table.md").read_text()
    assert (
        (here / "comparison" / "table.tex")
        .read_text()
        .startswith("% \\usepackage{booktabs}\n\\begin{table}\n")
    )
    (acp,) = [
        row
        for row in json.loads((here / "comparison" / "summary.json").read_text())
        if row["pipeline"] == "acp"
    ]
    assert acp["snn"]["4"] == pytest.approx([0.83, 0.0264575], abs=1e-6)
    # The folder without results, and that the results say nothing of steps and bytes.
    assert "2 warnings" in (here / "comparison" / "compare.html").read_text()


def test_output_score_and_layout(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(here, *(results(timesteps=T, scores=["map50", "map"], snn_map50=0.5, snn_map=0.25) for T in (4, 8)))
    run(monkeypatch, ".", "--output", "paper", "--score", "map", "--layout", "long")
    assert "resnet20 on digits: mAP, %" in capsys.readouterr().out
    assert "| lcp | 8 | 1 | 25.00 |" in (here / "paper" / "table.md").read_text()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, ["."], "There is no results.json of a calibration in '.'"),
        ("{", ["."], "'results.json' is no results file"),
        (json.dumps(ROWS[0]), ["missing"], "There is no 'missing'"),
        (json.dumps(ROWS[0]), [".", "--score", "miou"], "unknown score: 'miou'; There is: accuracy"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    arguments: list[str],
    message: str,
) -> None:
    if content is not None:
        (here / "results.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments)
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith(f"Error: {message}")
    assert not (here / "comparison").exists()


def test_the_module_is_the_command(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["snn_lightning.report", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("snn_lightning.report", run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: snn-compare ")
