"""Drawings of matplotlib: as SVG in the fonts and colours of a page's style sheet, and as PNG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

DATA = ("C0", "C1", "C2", "C3")
INK, MUTED, GRID = "C4", "C5", "C6"
"""Colours by their place in matplotlib's cycle, which is another for SVG and for PNG."""

_PROPERTIES = {
    "#010001": "--data-1",
    "#020002": "--data-2",
    "#030003": "--data-3",
    "#040004": "--data-4",
    "#000101": "--ink",
    "#000202": "--muted",
    "#000303": "--grid",
}
"""Colours that no one sees: each stands for a property of the style sheet, which light and dark pages set."""

LIGHT = ("#0072b2", "#d55e00", "#00805f", "#a8528a", "#1c2024", "#5b646e", "#d9dde2")
"""Those of the light page, on white."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "path.simplify": False,
}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
POINTS, DOTS = 72, 160
"""An inch."""


class Drawing(Markup):
    """An `<svg>` element that is as wide as there is room for; `png` draws the same in pixels, on white."""

    png: Callable[[], bytes]


def drawn(draw: Callable[[Figure], None], size: tuple[float, float], name: str, title: str) -> Drawing:
    """Return a drawing.

    Equal drawings give equal text. matplotlib's own settings are as before afterwards.

    Args:
        draw: draws into an empty figure.
        size: width and height, points.
        name: tells the drawing from others on the page; letters, digits and hyphens.
        title: says what is seen, for those who don't see it.
    """
    buffer = io.StringIO()
    with _figure(size, tuple(_PROPERTIES), name) as figure:
        draw(figure)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    drawing = Drawing(_for_page(buffer.getvalue(), name, title))
    drawing.png = partial(_png, draw, size, name, title)
    return drawing


def _png(draw: Callable[[Figure], None], size: tuple[float, float], name: str, title: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Software": None, "Title": printable(title)}
    with _figure(size, LIGHT, name) as figure:
        draw(figure)
        figure.savefig(
            buffer,
            format="png",
            dpi=DOTS,
            facecolor="white",
            bbox_inches="tight",
            pad_inches=0.1,
            metadata=metadata,
        )
    return buffer.getvalue()


@contextmanager
def _figure(size: tuple[float, float], colors: Sequence[str], salt: str) -> Iterator[Figure]:
    """Give an empty figure, to be drawn and written inside the context."""
    settings = {**_STYLE, "axes.prop_cycle": cycler(color=colors), "svg.hashsalt": salt}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        yield Figure(figsize=(size[0] / POINTS, size[1] / POINTS), facecolor="none")


def printable(text: str) -> str:
    """Return a text without the characters that XML can't hold.

    Example:
        >>> printable("re\\x00lu")
        're�lu'
    """
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _for_page(text: str, name: str, title: str) -> str:
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(text)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    used = set(re.findall(r"#([\w-]+)", text))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        if style := element.get("style"):
            element.set("style", _page_style(style))
    # As wide as its place on the page, and no wider than it was drawn for on a large screen.
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.attrib.update({"class": "chart", "role": "img", "aria-labelledby": f"{name}-title"})
    root.insert(0, heading := ElementTree.Element(f"{{{_SVG}}}title", {"id": f"{name}-title"}))
    heading.text = printable(title)
    return ElementTree.tostring(root, encoding="unicode")


def _page_style(style: str) -> str:
    style = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", style)
    style = re.sub(r"font-family: [^;]*;?\s*", "", style)
    return re.sub(r"#0[0-4]0[0-4]0[0-4]", lambda found: f"var({_PROPERTIES[found.group()]})", style)
