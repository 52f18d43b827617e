"""The charts of the page; those of sites have a row for each and grow downward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from snn_lightning.report.svg import DATA, INK, MUTED, Drawing, drawn, printable

WIDTH = 360
"""Points: on a phone a point is about a pixel."""

LONGEST = 22
"""Letters of a row's label."""

ROW, LETTER, LEGEND, AXIS, RIGHT = 16.5, 6.1, 20, 35, 24
"""Points: height of a row, width of a letter, heights of legend and axis, half the width of a number."""

TALL = 20
"""With more rows the numbers of the axis stand above the chart as well."""

Numbers = Sequence[float | None]


def label(text: str) -> str:
    """Return a row's label, the end of a long name.

    Example:
        >>> label("backbone.body.layer1.0.conv1")
        '…body.layer1.0.conv1'
    """
    text = printable(text)
    if len(text) <= LONGEST:
        return text
    end = text[-LONGEST + 1 :]
    return "…" + (end.partition(".")[2] if "." in end[:8] else end)


def dumbbells(
    name: str, title: str, axis: str, labels: Sequence[str], series: Mapping[str, Numbers]
) -> Drawing:
    """Draw the values of two series as dots, joined by a line in each row, on a logarithmic axis."""

    def draw(axes: Axes) -> None:
        before, after = series.values()
        for row, pair in enumerate(zip(before, after, strict=True)):
            ends = [value for value in pair if value]
            axes.plot(ends, [row] * len(ends), color=MUTED, linewidth=1.2, zorder=1)
        for (key, values), color, marker in zip(series.items(), (DATA[1], DATA[0]), "so", strict=True):
            known = [value or float("nan") for value in values]
            axes.plot(known, range(len(known)), marker, color=color, markersize=5.5, label=key)
        logarithmic(axes)

    return _rows(name, title, axis, labels, draw, len(series))


def bars(name: str, title: str, axis: str, labels: Sequence[str], series: Mapping[str, Numbers]) -> Drawing:
    """Draw a bar for each series in each row, one below the other."""

    def draw(axes: Axes) -> None:
        height = 0.72 / len(series)
        for number, (key, values) in enumerate(series.items()):
            rows = [row + (number - (len(series) - 1) / 2) * height for row in range(len(labels))]
            axes.barh(rows, [value or 0.0 for value in values], height, color=DATA[number], label=key)

    return _rows(name, title, axis, labels, draw, len(series))


def stacked(name: str, title: str, axis: str, labels: Sequence[str], parts: Mapping[str, Numbers]) -> Drawing:
    """Draw the parts of each row in one bar: positive ones right of zero, negative ones left."""

    def draw(axes: Axes) -> None:
        right, left = [0.0] * len(labels), [0.0] * len(labels)
        for (key, values), color in zip(parts.items(), DATA, strict=False):
            numbers = [value or 0.0 for value in values]
            starts = [right[i] if n >= 0 else left[i] for i, n in enumerate(numbers)]
            axes.barh(range(len(labels)), numbers, 0.66, left=starts, color=color, label=key)
            for row, number in enumerate(numbers):
                (right if number >= 0 else left)[row] += number
        axes.axvline(0, color=MUTED, linewidth=0.8)

    return _rows(name, title, axis, labels, draw, len(parts))


def ranges(
    name: str,
    title: str,
    axis: str,
    labels: Sequence[str],
    spans: Sequence[tuple[float, float, float]],
    log: bool = False,
) -> Drawing:
    """Draw the smallest, the middle and the largest value of each row."""

    def draw(axes: Axes) -> None:
        low, middle, high = zip(*spans, strict=True) if spans else ((), (), ())
        axes.hlines(range(len(spans)), low, high, color=DATA[0], linewidth=4, alpha=0.4)
        axes.plot(middle, range(len(spans)), "o", color=DATA[0], markersize=5)
        if log:
            logarithmic(axes)
        else:
            axes.set_xlim(left=0)

    return _rows(name, title, axis, labels, draw, 1)


def sparklines(
    name: str, title: str, axis: str, labels: Sequence[str], curves: Sequence[Sequence[tuple[int, float]]]
) -> Drawing:
    """Draw a small curve in each row, relative to its first value, and by how much it fell or rose."""

    def draw(axes: Axes) -> None:
        longest = max((curve[-1][0] for curve in curves), default=1) or 1
        for row, curve in enumerate(curves):
            first = curve[0][1] or 1.0
            relative = [value / first for _, value in curve]
            low, high = min(relative), max(*relative, 1.0)
            scale = 0.68 / max(high - low, 1e-12)
            heights = [row + 0.34 - (value - low) * scale for value in relative]
            axes.plot([i for i, _ in curve], heights, color=DATA[0], linewidth=1.4)
            change = round(100 * (relative[-1] - 1))
            text = f"{change:+d} %".replace("-", "−") if change else "0 %"
            axes.text(1.02 * longest, row, text, va="center", color=INK)
        axes.set_xlim(0, longest * 1.2)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= longest and tick == int(tick)])

    return _rows(name, title, axis, labels, draw, 1, row=1.35 * ROW)


def lines(
    name: str,
    title: str,
    axes_labels: tuple[str, str],
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    levels: Mapping[str, float] | None = None,
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> Drawing:
    """Draw curves over x, horizontal lines at `levels` and single points, `marks`."""

    several = len(series) + len(levels or ()) + len(marks or ()) > 1

    def draw(figure: Figure) -> None:
        axes = placed(figure, left=42, right=14, top=LEGEND + 4 if several else 8, bottom=AXIS)
        for (key, values), color in zip(series.items(), DATA, strict=False):
            few = len(x) <= 40
            axes.plot(x, values, "o-" if few else "-", color=color, markersize=3.5, label=key)
        for key, level in (levels or {}).items():
            axes.axhline(level, color=DATA[2], linewidth=1.4, linestyle="--", label=key)
        for key, (at, value) in (marks or {}).items():
            axes.plot([at], [value], "s", color=DATA[1], markersize=6, label=key)
        axes.grid(True)
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(axes_labels[0])
        axes.set_ylabel(axes_labels[1])
        if several:
            _legend(figure, axes)

    return drawn(draw, (WIDTH, 250), name, title)


def _rows(
    name: str,
    title: str,
    axis: str,
    labels: Sequence[str],
    draw: Callable[[Axes], None],
    series: int,
    row: float = ROW,
) -> Drawing:
    names = [label(text) for text in labels]
    tall = len(names) > TALL
    top = (LEGEND if series > 1 else 4) + (14 if tall else 4)
    height = top + row * max(len(names), 1) + AXIS

    def draw_all(figure: Figure) -> None:
        left = 12 + LETTER * max(map(len, names), default=0)
        axes = placed(figure, left=left, right=RIGHT, top=top, bottom=AXIS)
        draw(axes)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(which="both", length=0)
        axes.tick_params(axis="x", labeltop=tall)
        axes.grid(True, axis="x")
        axes.set_xlabel(axis)
        _without_offset(axes)
        if series > 1:
            _legend(figure, axes)

    return drawn(draw_all, (WIDTH, height), name, title)


def placed(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Return axes that leave so many points free at each side."""
    width, height = figure.get_size_inches() * 72
    place = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure.add_axes(place)


def logarithmic(axes: Axes) -> None:
    """Make the horizontal axis a logarithmic one."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # Where there are few powers of ten, numbers between them are named too.
    subs = (1.0,) if high > 50 * low else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("e-0", "e−")))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _without_offset(axes: Axes) -> None:
    """Write powers of ten at the numbers of a linear axis: matplotlib's own would lie on the axis' label."""
    largest = max(map(abs, axes.get_xlim()))
    if axes.get_xscale() == "linear" and not 1e-3 <= largest < 1e5:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))


def _legend(figure: Figure, axes: Axes) -> None:
    handles, texts = axes.get_legend_handles_labels()
    # Of a bar its colour.
    handles = [Patch(color=h[0].get_facecolor()) if isinstance(h, BarContainer) else h for h in handles]
    figure.legend(
        handles,
        texts,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=len(texts),
        borderpad=0,
        borderaxespad=0.1,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=1.1,
    )
