"""Drawings of matplotlib as SVG for a page: its fonts and colours are those of the page's style sheet."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, GRID = "#000101", "#000202", "#000303"
DATA = ("#010001", "#020002", "#030003", "#040004")
"""Colours that no one sees: each stands for a property of the style sheet, which light and dark pages set."""

_PROPERTIES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    color: f"--data-{number}" for number, color in enumerate(DATA, 1)
}
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
POINTS = 72


def drawn(draw: Callable[[Figure], None], size: tuple[float, float], name: str, title: str) -> Markup:
    """Return a drawing as an `<svg>` element that is as wide as there is room for.

    Equal drawings give equal text. matplotlib's own settings are as before afterwards.

    Args:
        draw: draws into an empty figure.
        size: width and height, points.
        name: tells the drawing from others on the page; letters, digits and hyphens.
        title: says what is seen, for those who don't see it.
    """
    settings = {**_STYLE, "svg.hashsalt": name}
    buffer = io.StringIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(size[0] / POINTS, size[1] / POINTS), facecolor="none")
        draw(figure)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return Markup(_for_page(buffer.getvalue(), name, title))


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
