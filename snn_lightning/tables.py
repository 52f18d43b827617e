"""Tables as text."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Return a table as lines of plain text, as wide as it needs to be on any terminal or none.

    Args:
        rows: the headings first.
        left: numbers of the columns that are aligned to the left; the others are to the right.
    """
    headings, *others = rows
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="left" if column in left else "right")
    for row in others:
        table.add_row(*row)
    width = sum(2 + max(map(cell_len, column)) for column in zip(*rows, strict=True))
    # rich takes a width alone for 80 where the environment says that the terminal is a poor one.
    console = Console(
        file=io.StringIO(),
        width=width,
        height=len(rows),
        color_system=None,
        force_jupyter=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as lines:
        console.print(table)
    return [line.rstrip() for line in lines.get().splitlines()]
