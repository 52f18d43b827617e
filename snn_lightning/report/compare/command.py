"""The console script `snn-compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from snn_lightning.analysis.results import strict_json
from snn_lightning.errors import SNNLightningError
from snn_lightning.files import write_atomically
from snn_lightning.report.compare import complexity
from snn_lightning.report.compare.formats import latex, markdown, terminal
from snn_lightning.report.compare.methods import panels
from snn_lightning.report.compare.page import PAGE, write_comparison
from snn_lightning.report.compare.paper_figures import DRAWN, paper_figures
from snn_lightning.report.compare.papers import PAPERS, paper_tables
from snn_lightning.report.compare.runs import find_runs
from snn_lightning.report.compare.tables import LAYOUTS, all_numbers, score_table, summary

FILES = f"{PAGE}, table.md, table.tex, table.csv and summary.json"
UNLIMITED = 10_000
"""Letters."""


def compare(
    paths: Sequence[str | Path], output: str | Path, score: str | None = None, layout: str | None = None
) -> None:
    """Print tables of runs side by side, and write them and a page.

    Args:
        paths: folders of runs or sweeps, or files `results.json`.
        output: the folder for `compare.html`, `table.md`, `table.tex`, `table.csv` and `summary.json`.
        score: its name; None is the first of each model and data set.
        layout: of the tables, see `score_table`, or of the papers' tables and figures, as "pc_table2".

    Raises:
        SettingsError: a path or the score doesn't exist, or no run has a place in the paper's table.
        CheckpointError: there are no results, they are damaged, or the folder can't be written.
    """
    runs, notes = find_runs(paths)
    found, more = panels(runs, score)
    notes, folder, console = [*notes, *more], Path(output), Console()
    own = layout if layout in LAYOUTS else None
    tables = [table for panel in found for table in (score_table(panel, own), *complexity.tables(panel))]
    notes += complexity.missing(found)
    if layout in PAPERS:
        tables, left_out = paper_tables(layout, runs)
        notes += [note for note in left_out if note not in notes]
    for caption, table in tables:
        shown = terminal(caption, table)
        # What is wider than the terminal is broken by it, and nothing is cut off.
        unlimited = console.options.update(width=UNLIMITED)
        console.width = max(console.width, console.measure(shown, options=unlimited).maximum)
        console.print(shown, highlight=False)
    for note in notes:
        console.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)
    written = {
        "table.md": "\n".join(markdown(*table) for table in tables),
        "table.tex": "% \\usepackage{booktabs}\n" + "\n".join(latex(*table) for table in tables),
        "table.csv": all_numbers(found).csv,
        "summary.json": strict_json(summary(found)),
    }
    for name, content in written.items():
        write_atomically(folder / name, content.encode())
    page = write_comparison(folder / PAGE, found, notes, own)
    if layout in DRAWN:
        for path in paper_figures(layout, runs, folder):
            console.print(f"Figure: {path}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Comparison: {page}", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="snn-compare",
        description="Compare runs of calibrate.py: a table for each model and data set, mean ± sample "
        "standard deviation over seeds, and a page with charts. Runs that differ in nothing but seed and T "
        "are one method; the settings that tell methods apart are found by themselves.",
        epilog="Example: snn-compare outputs/2026-01-01/12-00-00 multirun/ --output comparison",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="the folder of a run or of a sweep, which is searched with all folders in it, or a results.json",
    )
    parser.add_argument("--output", default="comparison", metavar="FOLDER", help=f"for {FILES} (%(default)s)")
    parser.add_argument("--score", help="such as map; the first that results.json names, if not given")
    parser.add_argument(
        "--layout",
        choices=[*LAYOUTS, *PAPERS, *DRAWN],
        help="T: a row a method, a column a T (the default where there are several T); long: a row for each "
        "method and T, with the uncalibrated SNN's score, energy and seconds; pc_... and fl_...: as in "
        "the paper, of runs of the experiment of that name",
    )
    given = parser.parse_args()
    try:
        compare(given.paths, given.output, given.score, given.layout)
    except SNNLightningError as error:
        parser.exit(1, f"Error: {error}\n")
