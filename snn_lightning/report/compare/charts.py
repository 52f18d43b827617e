"""The charts of a comparison; each method has its colour and its marker in all of them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from snn_lightning.report.charts import AXIS, LETTER, RIGHT, ROW, TALL, WIDTH, label, logarithmic, placed
from snn_lightning.report.parts import number
from snn_lightning.report.svg import DATA, INK, MUTED, Drawing, drawn, printable

MARKERS, DASHES = "os^DvPX*", ("-", "--", ":", "-.")
LINE, HANDLE = 15, 30
"""Points: the height of a line of the legend, and the room for a line's picture."""

GAP = 6
"""Points: below a group of bars."""

SUBROW = 7.0
"""Points: the height of a method in the row of a site."""


MANY = 40
"""A curve of more points has no markers."""

Looks = Mapping[str, dict[str, Any]]
"""Colour, marker and dashes of each method."""


class Point(NamedTuple):
    """A mean, and its deviations where there are several seeds."""

    x: float
    y: float
    dx: float | None = None
    dy: float | None = None
    text: str = ""


def curves(
    name: str,
    title: str,
    axes_labels: tuple[str, str],
    series: Mapping[str, Sequence[Point]],
    looks: Looks,
    level: float | None = None,
    ticks: Sequence[int] = (),
) -> Drawing:
    """Draw a curve for each method, and a horizontal line, the ANN's `level`.

    `ticks` are time steps, each of them about twice the one before, and make the axis a logarithmic one.
    """

    def draw(axes: Axes) -> None:
        for key, points in series.items():
            look = looks[key]
            x, y, dx, dy, _ = zip(*points, strict=True)
            style = {**look, "marker": ""} if len(points) > MANY else look
            axes.errorbar(
                x, y, _bars(dy), _bars(dx), **style, markersize=5, capsize=2.5, elinewidth=1, label=key
            )
            for point in points:
                place = (point.x, point.y)
                axes.annotate(point.text, place, (-6, 5), textcoords="offset points", ha="right", color=INK)
        if any(point.text for points in series.values() for point in points):
            axes.margins(x=0.12)
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=1.4, linestyle="--", label="ANN", zorder=1)
        if ticks:
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axes.grid(True)
        axes.set_xlabel(axes_labels[0])
        axes.set_ylabel(axes_labels[1])

    legend = {key: looks[key] for key in series}
    if level is not None:
        legend["ANN"] = {"color": MUTED, "marker": "", "linestyle": "--"}
    return _with_legend(name, title, legend, draw, height=215, left=44)


def sites(
    name: str,
    title: str,
    axis: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    looks: Looks,
) -> Drawing:
    """Draw in the row of each site a marker a method."""
    names = [label(text) for text in labels]
    row = max(ROW, SUBROW * len(series) + 5)

    def draw(axes: Axes) -> None:
        for index, (key, values) in enumerate(series.items()):
            look = looks[key]
            shift = (index - (len(series) - 1) / 2) * SUBROW / row
            marker = {"color": look["color"], "marker": look["marker"], "linestyle": "", "markersize": 4.5}
            for place, value in enumerate(values):
                if value:
                    axes.plot([value], [place + shift], **marker)
        logarithmic(axes)
        axes.set_yticks(range(len(names)), names)
        axes.set_yticks([place + 0.5 for place in range(len(names) - 1)], minor=True)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x")
        if len(series) > 1:
            axes.grid(True, axis="y", which="minor")
        axes.tick_params(axis="x", labeltop=len(names) > TALL)
        axes.set_xlabel(axis)

    left = 12 + LETTER * max(map(len, names), default=0)
    above = 14 if len(names) > TALL else 4
    legend = {key: looks[key] for key in series}
    return _with_legend(name, title, legend, draw, height=row * max(len(names), 1) + above, left=left)


def stacks(
    name: str,
    title: str,
    axis: str,
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    looks: Looks,
) -> Drawing:
    """Draw bars of parts, each with its sum at the end, in groups below a heading.

    Args:
        name, title: as of other charts.
        axis: what the parts are, and their unit.
        groups: by heading and label of a bar its parts.
        looks: of the parts, in their order.
    """
    letters = int(WIDTH / LETTER)
    headings = {heading: textwrap.wrap(printable(heading), letters) for heading in groups}
    left = 12 + LETTER * max(len(label) for bars in groups.values() for label in bars)
    places: dict[str, float] = {}
    rows: list[tuple[float, str, Sequence[float]]] = []
    height = 0.0
    for heading, bars in groups.items():
        places[heading] = height
        height += LINE * len(headings[heading]) + 2
        for text, parts in bars.items():
            rows.append((height + ROW / 2, text, parts))
            height += ROW
        height += GAP

    def draw(axes: Axes) -> None:
        longest = max(sum(parts) for _, _, parts in rows) or 1.0
        for heading, place in places.items():
            lines = "\n".join(headings[heading])
            axes.annotate(lines, (0, place), (-left, 0), textcoords="offset points", va="top", color=INK)
        for place, _, parts in rows:
            start = 0.0
            for look, part in zip(looks.values(), parts, strict=True):
                style = {"color": look["color"], "alpha": look["alpha"]}
                axes.barh(place, part, 0.72 * ROW, left=start, **style)
                start += part
            axes.annotate(
                number(start), (start, place), (4, 0), textcoords="offset points", va="center", color=INK
            )
        axes.set_xlim(0, 1.16 * longest)
        axes.set_ylim(height, 0)
        axes.set_yticks([place for place, _, _ in rows], [text for _, text, _ in rows])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x")
        axes.set_xlabel(axis)

    return _with_legend(name, title, looks, draw, height=height, left=left)


def looks_of_steps(names: Sequence[str]) -> Looks:
    """Return the look of each calibration step: what only observes and fires is grey.

    Example:
        >>> [look["alpha"] for look in looks_of_steps(["observe", "bias", "fire"]).values()]
        [1.0, 1.0, 0.5]
    """
    greys = {"observe": 1.0, "fire": 0.5}
    steps = [name for name in names if name not in greys]
    colors = {text: (DATA[i % len(DATA)], 1.0 if i < len(DATA) else 0.5) for i, text in enumerate(steps)}
    colors |= {text: (MUTED, alpha) for text, alpha in greys.items()}
    return {
        text: {"color": colors[text][0], "alpha": colors[text][1], "marker": "s", "linestyle": ""}
        for text in names
    }


def _bars(deviations: Sequence[float | None]) -> list[float] | None:
    """Return the lengths of bars; None where all would have none."""
    return [width or 0.0 for width in deviations] if any(deviations) else None


def looks_of(labels: Sequence[str]) -> Looks:
    """Return colour, marker and dashes of each method, which are the same in all charts.

    Example:
        >>> looks_of(["baseline", "lcp"])["lcp"]["marker"]
        's'
    """
    return {
        text: {
            "color": DATA[number % len(DATA)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": DASHES[number // len(DATA) % len(DASHES)],
        }
        for number, text in enumerate(dict.fromkeys(labels))
    }


def _with_legend(
    name: str,
    title: str,
    looks: Looks,
    draw: Callable[[Axes], None],
    height: float,
    left: float,
) -> Drawing:
    """Draw below a legend that takes as many lines as it needs."""
    letters = int((WIDTH - HANDLE) / LETTER)
    texts = ["\n".join(textwrap.wrap(printable(text), letters)) for text in looks]
    longest = max(len(line) for text in texts for line in text.split("\n"))
    columns = max(1, min(len(texts), int(WIDTH / (HANDLE + LETTER * longest))))
    rows = [texts[i : i + columns] for i in range(0, len(texts), columns)]
    legend = LINE * sum(max(text.count("\n") + 1 for text in row) for row in rows) + 6

    def draw_all(figure: Figure) -> None:
        axes = placed(figure, left=left, right=RIGHT, top=legend + 8, bottom=AXIS)
        axes.tick_params(which="both", length=0)
        draw(axes)
        handles = [Line2D([], [], **look, markersize=5) for look in looks.values()]
        # matplotlib fills columns first, a reader expects rows.
        order = [i for column in range(columns) for i in range(column, len(texts), columns)]
        figure.legend(
            [handles[i] for i in order],
            [texts[i] for i in order],
            loc="upper left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            borderpad=0,
            borderaxespad=0.1,
            handlelength=1.8,
            handletextpad=0.5,
            columnspacing=1.1,
            labelspacing=0.35,
        )

    return drawn(draw_all, (WIDTH, legend + 8 + height + AXIS), name, title)
