"""What sections of the page are made of: tables of plain values, and charts of them."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from snn_lightning.report.svg import Drawing

Text = Callable[[Any], str]


@dataclass(frozen=True)
class Table:
    """Rows of plain values, whole numbers, numbers or texts; None where there is none.

    Args:
        columns: the heading of each column, and how its values are shown.
        rows: the values.

    Example:
        >>> table = Table({"stage": str, "error": number}, [("relu", 0.01234), ("readout", None)])
        >>> table.shown
        [['relu', '0.0123'], ['readout', '–']]
        >>> table.csv
        'stage,error\\r\\nrelu,0.01234\\r\\nreadout,\\r\\n'
    """

    columns: dict[str, Text]
    rows: Sequence[Sequence[Any]]

    @property
    def shown(self) -> list[list[str]]:
        """The values as texts."""
        texts = list(self.columns.values())
        return [
            ["–" if v is None else text(v) for text, v in zip(texts, row, strict=True)] for row in self.rows
        ]

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers."""
        return [text is not str for text in self.columns.values()]

    @property
    def csv(self) -> str:
        """The values as they are, with the headings."""
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return buffer.getvalue()

    def column(self, heading: str) -> list[Any]:
        """Return the values of a column."""
        index = list(self.columns).index(heading)
        return [row[index] for row in self.rows]


@dataclass(frozen=True)
class Chart:
    """A chart and the numbers it is drawn from.

    Args:
        name: of the file with the numbers, without ".csv".
        caption: what it shows.
        svg: the drawing, which can give a PNG too.
        data: the numbers.
        listed: whether the page has them as a table as well.
    """

    name: str
    caption: str
    svg: Drawing
    data: Table
    listed: bool = True


@dataclass(frozen=True)
class Picture:
    """A picture of pixels.

    Args:
        caption: what it shows.
        png: the file.

    Example:
        >>> Picture("A dot.", b"dot").source
        'data:image/png;base64,ZG90'
    """

    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """The file as an address, so that the page stays one file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        name: of its anchor.
        title: heading.
        texts: paragraphs.
        charts: charts, each with its table.
        tables: further tables, by caption.
        items: a list of sentences.
        code: a command.
        pictures: pictures of pixels.
    """

    name: str
    title: str
    texts: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: dict[str, Table] = field(default_factory=dict)
    items: Sequence[str] = ()
    code: str = ""
    pictures: Sequence[Picture] = ()


def number(value: float) -> str:
    """Return a number with three digits.

    Example:
        >>> number(0.0012345), number(1234.5), number(0.0)
        ('0.00123', '1,234', '0')
    """
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def whole(value: int) -> str:
    """Return a whole number.

    Example:
        >>> whole(12345)
        '12,345'
    """
    return f"{value:,}"
