"""Drawings are text that takes the page's fonts and colours, and is the same each time."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from snn_lightning import report
from snn_lightning.report import charts
from snn_lightning.report.charts import LONGEST, label
from snn_lightning.report.svg import DATA, INK, LIGHT, drawn, printable

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["one", "a_long.name.of_a.module.in_it", "<b>&\"'", "$x^2$", "名前"]


def draw(figure: Figure) -> None:
    axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    axes.plot([0, 1], [0, 1], color=DATA[1], label="$a$")
    axes.text(0, 0, "<i>", color=INK)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_drawing() -> None:
    before = dict(matplotlib.rcParams)
    svg = drawn(draw, (300, 200), "name", "What <it> shows")
    assert dict(matplotlib.rcParams) == before
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == "0 0 300 200"
    assert {"width", "height"}.isdisjoint(root.attrib)
    assert root[0].text == "What <it> shows"
    assert "<i>" in texts(svg)
    assert "var(--data-2)" in svg
    assert "var(--ink)" in svg
    # No colour but the page's, no font but the page's.
    assert not re.search(r"#[0-9a-f]{6}[;\"]", svg)
    assert "DejaVu" not in svg
    assert svg == drawn(draw, (300, 200), "name", "What <it> shows")


def test_settings_of_the_user_don_t_matter_and_stay() -> None:
    expected = drawn(draw, (300, 200), "name", "title")
    with matplotlib.rc_context({"svg.fonttype": "path", "font.size": 30, "axes.facecolor": "red"}):
        assert drawn(draw, (300, 200), "name", "title") == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_the_same_in_pixels() -> None:
    before = dict(matplotlib.rcParams)
    drawing = drawn(draw, (300, 200), "name", "What <it> shows, ‖x‖²")
    png = drawing.png()
    assert dict(matplotlib.rcParams) == before
    with Image.open(io.BytesIO(png)) as image:
        assert image.info["Title"] == "What <it> shows, ‖x‖²"
        colors = {"#{:02x}{:02x}{:02x}{:02x}".format(*pixel) for _, pixel in image.getcolors(10**6)}
    assert {"#ffffffff", f"{LIGHT[1]}ff", f"{LIGHT[4]}ff"} <= colors  # the paper, the line, the text
    assert f"{LIGHT[0]}ff" not in colors
    with matplotlib.rc_context({"savefig.transparent": True, "font.size": 30, "savefig.pad_inches": 3}):
        assert drawing.png() == png


def test_the_colours_of_pixels_are_those_of_the_light_page() -> None:
    css = (Path(report.__file__).parent / "template" / "style.css").read_text()
    light = dict(re.findall(r"(--[\w-]+): (#\w{6});", css.split("@media")[0]))
    properties = ("data-1", "data-2", "data-3", "data-4", "ink", "muted", "grid")
    assert tuple(light[f"--{name}"] for name in properties) == LIGHT
    assert light["--paper"] == "#ffffff"


@pytest.mark.parametrize(
    "svg",
    [
        charts.bars("a", "t", "x", NAMES, {"SNN": [1, 2, None, 4, 0], "ANN": [1, 2, 3, 4, 5]}),
        charts.dumbbells(
            "b", "t", "x", NAMES, {"before": [1, None, 0.1, 0, 2], "after": [0.5, 1, 0.1, 0, 1]}
        ),
        charts.dumbbells("g", "t", "x", NAMES, {"before": [None] * 5, "after": [0.0] * 5}),
        charts.stacked("c", "t", "x", NAMES, {"p": [1, 2, 3, 4, 5], "q": [-1, 1, -1, 1, 0]}),
        charts.ranges("d", "t", "x", NAMES, [(0.1, 1, 10)] * 5, log=True),
        charts.ranges("e", "t", "x", NAMES, [(0, 0.5, 1)] * 5),
        charts.sparklines(
            "f", "t", "x", NAMES, [[(0, 1.0), (9, 0.5)], [(0, 0.0)], *[[(0, 1.0), (9, 2.0)]] * 3]
        ),
    ],
    ids=["bars", "dumbbells", "no dumbbells", "stacked", "ranges", "zero", "sparklines"],
)
def test_rows_have_their_names(svg: str) -> None:
    assert [text for text in texts(svg) if text in map(label, NAMES)] == list(map(label, NAMES))


def test_changes_of_losses() -> None:
    curves = [[(0, 2.0), (10, 1.0)], [(0, 1.0), (10, 1.004)], [(0, 1.0), (10, 1.5)]]
    svg = charts.sparklines("f", "t", "iteration", ["a", "b", "c"], curves)
    assert [text for text in texts(svg) if text.endswith("%")] == ["−50 %", "0 %", "+50 %"]


def test_with_few_powers_of_ten_numbers_between_them_are_named() -> None:
    few = charts.ranges("d", "t", "x", ["a"], [(0.1, 0.2, 0.9)], log=True)
    many = charts.ranges("d", "t", "x", ["a"], [(1e-5, 0.2, 0.9)], log=True)
    assert {"0.1", "0.2", "0.5"} <= set(texts(few))
    assert "0.2" not in texts(many)
    assert "1e−5" in texts(many)


@pytest.mark.parametrize(("rows", "times"), [(20, 1), (21, 2)])
def test_many_rows_have_the_axis_above_too(rows: int, times: int) -> None:
    svg = charts.bars("a", "t", "x", ["name"] * rows, {"s": [4.0] * rows})
    assert texts(svg).count("2") + texts(svg).count("2.0") == times


@pytest.mark.parametrize("text", ["x" * 50, "a.b" * 20, "backbone.body.layer1.0.conv1", "x" * LONGEST])
def test_labels_are_the_end_of_a_name(text: str) -> None:
    assert len(label(text)) <= LONGEST
    assert text.endswith(label(text).lstrip("…"))
    assert (label(text) == text) == (len(text) <= LONGEST)


def test_printable() -> None:
    assert printable("a\x00\x1b\ud800b") == "a���b"


@pytest.mark.parametrize("largest", [0.000428757, 0.0119, 1.19, 11900.0])
def test_the_last_number_of_an_axis_stays_inside(largest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = []

    def measure(draw: Callable[[Figure], None], size: tuple[float, float], *_: str) -> Markup:
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        canvas = FigureCanvasAgg(figure)
        with matplotlib.rc_context({"font.size": 10.5}):
            draw(figure)
            canvas.draw()
        (axes,) = figure.axes
        low, high = axes.get_xlim()
        for text in axes.get_xticklabels():
            if low <= text.get_position()[0] <= high:
                outside.append(text.get_window_extent(canvas.get_renderer()).x1 - size[0])
        return Markup()

    monkeypatch.setattr(charts, "drawn", measure)
    charts.bars("a", "title", "seconds", ["a", "b"], {"s": [largest, largest / 3]})
    assert max(outside) <= 0
