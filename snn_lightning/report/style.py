"""Colours and fonts of figures and pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
"""Okabe and Ito's colours, which the colour-blind can tell apart (jfly.uni-koeln.de/color)."""

CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""For lines, in this order; yellow is too light for one."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""For lines too: they are told apart without colours."""

GREY = "#6B6B6B"
FONTS = ("DejaVu Sans", "sans-serif")
SIZE = 13
"""Points, in figures 8 inches wide: still 6.5 at half their size."""

SETTINGS: Any = {
    "font.family": list(FONTS),
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.7,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fancybox": False,
    "legend.fontsize": SIZE - 1,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.5,
    "xtick.labelsize": SIZE - 1,
    "ytick.labelsize": SIZE - 1,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.fonttype": "path",
    "svg.hashsalt": "snn_lightning",
    "path.simplify": False,
}
"""Settings of matplotlib for a figure, and for writing it."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw and write figures in this style inside the context, whatever else is set.

    Example:
        >>> with styled():
        ...     matplotlib.rcParams["font.size"]
        13.0
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def panels(
    width: float, height: float, rows: int = 1, columns: int = 1, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a new figure without pyplot, which no window or global list holds, and its axes row by row.

    Args:
        width: of the figure, inches.
        height: of the figure, inches.
        rows: of axes.
        columns: of axes.
        sharex: whether all have the same x axis.
        sharey: whether all have the same y axis.

    Example:
        >>> figure, axes = panels(8, 4, columns=2)
        >>> len(axes)
        2
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).flat)


def looks(count: int) -> list[tuple[str, str]]:
    """Return a colour and a marker for each of `count` lines.

    Example:
        >>> looks(2)
        [('#0072B2', 'o'), ('#D55E00', 's')]
    """
    return list(islice(cycle(zip(CYCLE, MARKERS, strict=True)), count))


def label_sites(axes: Axes, names: list[str], positions: list[float]) -> None:
    """Write the names of sites at the x axis, upright where they are many or long.

    Example:
        >>> _, (axes,) = panels(8, 4)
        >>> label_sites(axes, ["relu", "relu_1"], [1.0, 2.0])
        >>> [label.get_text() for label in axes.get_xticklabels()]
        ['relu', 'relu_1']
    """
    upright = sum(map(len, names)) > 60
    axes.set_xticks(positions, names, rotation=90 if upright else 0)
    axes.tick_params(axis="x", length=0)


def site_size(names: list[str], height: float) -> tuple[float, float]:
    """Return width and height in inches of a figure with sites side by side, their names below it.

    Args:
        names: of the sites.
        height: without the names.

    Example:
        >>> site_size(["relu"] * 40, 4.0)
        (13.0, 4.4)
    """
    return max(8.0, 1.0 + 0.3 * len(names)), height + 0.1 * max(map(len, names))
