import csv

import pytest

from snn_lightning.report.compare.formats import latex, markdown
from snn_lightning.report.compare.tables import all_numbers, score_table, summary
from snn_lightning.report.parts import Table
from tests.report.compare.made import ROWS, panels_of, results


def shown(*rows: dict, layout: str | None = None) -> tuple[str, list[list[str]]]:
    (panel,) = panels_of(*rows)
    caption, table = score_table(panel, layout)  # type: ignore[arg-type]
    return caption, [list(table.columns), *table.shown]


def test_a_row_a_method_and_a_column_a_t() -> None:
    assert shown(*ROWS) == (
        "resnet20 on digits: accuracy after T time steps, %",
        [
            ["pipeline", "seeds", "ANN", "T=4", "T=8"],
            ["lcp", "1", "90.00", "70.00", "–"],
            ["acp", "1–3", "92.00 ± 2.00", "83.00 ± 2.65", "90.00"],
        ],
    )


RATIOS = ("energy_ratio", "energy_ratio_zero_skipping")
MEASURED = {"uncalibrated_accuracy": 0.3, "energy_ratio": 0.25, "seconds": {"calibration": 1.25}}


def test_the_long_layout_is_that_of_a_single_t() -> None:
    rows = [results(snn=0.5, **MEASURED), results(seed=1, snn=0.7, **MEASURED), results("acp", snn=0.8)]
    caption, cells = shown(*rows)
    assert caption == "resnet20 on digits: accuracy, %"
    heading = ["pipeline", "T", "seeds", "ANN", "uncalibrated\nSNN", "SNN"]
    assert cells == [
        [*heading, "energy,\nof the ANN's", "calibration,\nseconds"],
        ["lcp", "4", "2", "90.00 ± 0.00", "30.00 ± 0.00", "60.00 ± 14.14", "25.00 ± 0.00", "1.25 ± 0.00"],
        ["acp", "4", "1", "90.00", "–", "80.00", "–", "–"],
    ]


def test_what_no_run_knows_has_no_column() -> None:
    _, cells = shown(results(ann_accuracy=None), layout="long")
    assert cells == [["pipeline", "T", "seeds", "SNN"], ["lcp", "4", "1", "50.00"]]


def test_a_layout_can_be_chosen() -> None:
    assert shown(results(), layout="T")[1][0] == ["pipeline", "seeds", "ANN", "T=4"]
    assert [row[:3] for row in shown(*ROWS, layout="long")[1]] == [
        ["pipeline", "T", "seeds"],
        ["lcp", "4", "1"],
        ["acp", "4", "3"],
        ["acp", "8", "1"],
    ]


def test_plain_numbers_of_all_panels() -> None:
    few, many = ({"data": {"calibration_images": images}} for images in (64, 128))
    rows = [
        results(config=few, snn=0.5, energy_ratio=0.25, energy_ratio_zero_skipping=0.5),
        results(config=few, snn=0.75, seed=1),
        results(config=many),
        results(model="vgg16", scores=["map"], snn_accuracy=None, snn_map=0.125, ann_accuracy=None),
    ]
    table = all_numbers(panels_of(*rows)).csv
    heading, *lines = csv.reader(table.splitlines())
    keys = ["ann", "uncalibrated", "snn", "latency_steps", *RATIOS, "calibration_seconds"]
    assert heading == [
        *("model", "data", "pipeline", "data.calibration_images", "T", "seeds", "score"),
        *(f"{key}{part}" for key in keys for part in ("", "_deviation")),
    ]
    assert lines[0][:7] == ["resnet20", "digits", "lcp", "64", "4", "2", "accuracy"]
    assert lines[0][7:13] == ["0.9", "0.0", "", "", "0.625", "0.1767766952966369"]
    assert lines[0][13:] == ["", "", "0.25", "", "0.5", "", "", ""]
    assert lines[1][3:6] == ["128", "4", "1"]
    assert lines[2] == ["vgg16", "digits", "lcp", "", "4", "1", "map", *[""] * 4, "0.125", *[""] * 9]


def test_the_summary() -> None:
    lcp, acp = summary(panels_of(*ROWS))
    assert lcp == {
        **{"model": "resnet20", "data": "digits", "pipeline": "lcp", "settings": {}, "score": "accuracy"},
        **{"seeds": {4: 1}, "ann": [0.9, None], "snn": {4: [0.7, None]}, "runs": ["0/results.json"]},
        **{key: {4: None} for key in ("uncalibrated", *RATIOS, "calibration_seconds")},
        "latency_steps": {4: None},
    }
    assert acp["snn"] == {4: [pytest.approx(0.83), pytest.approx(0.0264575, abs=1e-7)], 8: [0.9, None]}


MARKDOWN = """\
**resnet20 on digits: accuracy after T time steps, %**

| pipeline | seeds | ANN | T=4 | T=8 |
|---|---:|---:|---:|---:|
| lcp | 1 | 90.00 | 70.00 | – |
| acp | 1–3 | 92.00 ± 2.00 | 83.00 ± 2.65 | 90.00 |
"""
LATEX = r"""\begin{table}
  \centering
  \caption{resnet20 on digits: accuracy after T time steps, \%}
  \begin{tabular}{lrrrr}
    \toprule
    pipeline & seeds & ANN & T=4 & T=8 \\
    \midrule
    lcp & 1 & 90.00 & 70.00 & -- \\
    acp & 1--3 & 92.00 $\pm$ 2.00 & 83.00 $\pm$ 2.65 & 90.00 \\
    \bottomrule
  \end{tabular}
\end{table}
"""


def test_markdown_and_latex() -> None:
    (panel,) = panels_of(*ROWS)
    assert markdown(*score_table(panel)) == MARKDOWN
    assert latex(*score_table(panel)) == LATEX


def test_what_means_something_in_markdown_and_latex_is_escaped() -> None:
    (panel,) = panels_of(results("a|b_c\n*d* <i> `x` \\ [y] #1", data="50% & ~ ^ {z} $"))
    shown = markdown(*score_table(panel))
    assert shown.splitlines()[4].startswith(r"| a\|b\_c \*d\* \<i\> \`x\` \\ \[y\] \#1 |")
    shown = latex(*score_table(panel))
    assert r"resnet20 on 50\% \& \textasciitilde{} \textasciicircum{} \{z\} \$: accuracy" in shown
    name = r"a\textbar{}b\_c *d* \textless{}i\textgreater{} `x` \textbackslash{} [y] \#1"
    assert shown.splitlines()[7] == rf"    {name} & 4 & 1 & 90.00 & 50.00 \\"


def test_names_are_no_formulas_and_no_entities_in_markdown() -> None:
    assert markdown("$x$ &lt;", Table({"a": str}, [])).startswith("**\\$x\\$ \\&lt;**")


def test_the_latency_has_a_column_where_it_is_known() -> None:
    _, cells = shown(results(latency_steps=4), results("acp", latency_steps=80), layout="long")
    column = cells[0].index("latency,\nsteps")
    assert [row[column] for row in cells[1:]] == ["4", "80"]
