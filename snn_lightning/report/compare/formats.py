"""Tables as text for a terminal, for Markdown and for LaTeX."""

from __future__ import annotations

import re

import rich.table
from rich.text import Text

from snn_lightning.report.parts import Table

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_LATEX = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
    }
)


def terminal(caption: str, table: Table) -> rich.table.Table:
    """Return a table that rich prints, as wide as its cells.

    Example:
        >>> shown = terminal("a [b]", Table({"method": str}, [["[red]"]]))
        >>> str(shown.title), [str(cell) for cell in shown.columns[0].cells]
        ('a [b]', ['[red]'])
    """
    shown = rich.table.Table(title=Text(caption), title_justify="left")
    for heading, numeric in zip(table.columns, table.numeric, strict=True):
        shown.add_column(Text(heading), justify="right" if numeric else "left", no_wrap=True)
    for row in table.shown:
        shown.add_row(*map(Text, row))
    return shown


def markdown(caption: str, table: Table) -> str:
    """Return a table in Markdown, below its caption.

    Example:
        >>> from snn_lightning.report.parts import whole
        >>> print(markdown("digits", Table({"method": str, "T=4": whole}, [["a|b", 1], ["c", None]])), end="")
        **digits**
        <BLANKLINE>
        | method | T=4 |
        |---|---:|
        | a\\|b | 1 |
        | c | – |
    """
    rules = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = [_row(list(table.columns)), f"|{'|'.join(rules)}|", *map(_row, table.shown)]
    return "\n".join([f"**{_markdown(caption)}**", "", *rows, ""])


def latex(caption: str, table: Table) -> str:
    r"""Return a table in LaTeX, for `\usepackage{booktabs}`.

    Example:
        >>> from snn_lightning.report.parts import whole
        >>> print(latex("on digits", Table({"method": str, "T=4": whole}, [["a_b", 1], ["c", None]])), end="")
        \begin{table}
          \centering
          \caption{on digits}
          \begin{tabular}{lr}
            \toprule
            method & T=4 \\
            \midrule
            a\_b & 1 \\
            c & -- \\
            \bottomrule
          \end{tabular}
        \end{table}
    """
    heading, *rows = [
        f"    {' & '.join(_one_line(cell).translate(_LATEX) for cell in row)} \\\\"
        for row in ([*table.columns], *table.shown)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_one_line(caption).translate(_LATEX)}}}",
            rf"  \begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in table.numeric)}}}",
            r"    \toprule",
            heading,
            r"    \midrule",
            *rows,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(map(_markdown, cells))} |"


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
