"""What a browser makes of the page: at the width of a phone and of a screen, light and dark, and on paper."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snn_lightning import LCP, calibrate
from snn_lightning.report import write_report

from .support import RESULTS, calibrated

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
pytestmark = [
    pytest.mark.skipif(
        not (shutil.which(CHROMIUM) and shutil.which(DRIVER)),
        reason="needs Debian's packages chromium and chromium-driver",
    )
]

PHONE, SCREEN, PAPER = 390, 1280, 718
LOOKS = [(PHONE, "light"), (PHONE, "dark"), (SCREEN, "light"), (SCREEN, "dark"), (PAPER, "print")]

MEASURE = """
const numbers = color => (color.match(/[\\d.]+/g) || []).map(Number);
const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const paper = element => {
  for (; element; element = element.parentElement) {
    const color = numbers(getComputedStyle(element).backgroundColor);
    if (color.length == 3) return color;
  }
  return [255, 255, 255];
};
const worst = {text: 99, drawn: 99};
const see = (key, element, color) => {
  worst[key] = Math.min(worst[key], contrast(luminance(numbers(color)), luminance(paper(element))));
};
for (const element of document.querySelectorAll("h1,h2,h3,p,li,dt,dd,th,td,a,figcaption,code"))
  if (element.getClientRects().length) see("text", element, getComputedStyle(element).color);
for (const element of document.querySelectorAll("svg text"))
  see("text", element, getComputedStyle(element).fill);
for (const element of document.querySelectorAll("svg path[style*='--data']")) {
  const style = getComputedStyle(element);
  const filled = element.style.fill && style.fill != "none";
  if (style.opacity == 1) see("drawn", element, filled ? style.fill : style.stroke);
}
const charts = [...document.querySelectorAll("svg.chart")].map(chart => {
  const {left, right, width, height} = chart.getBoundingClientRect();
  const letters = [...chart.querySelectorAll("text")].map(text => text.getBoundingClientRect());
  const sizes = [...chart.querySelectorAll("text")].map(
    text => parseFloat(getComputedStyle(text).fontSize) * width / chart.viewBox.baseVal.width);
  return {
    width, height, paths: chart.querySelectorAll("path").length, smallest: Math.min(...sizes),
    outside: Math.max(...letters.map(r => Math.max(left - r.left, r.right - right))),
  };
});
return {
  worst, charts, sideways: document.documentElement.scrollWidth - innerWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  beside: document.querySelector(".pair .table").offsetLeft > document.querySelector("figure").offsetLeft,
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ann, snn, x = calibrated()
    return write_report(snn, tmp_path_factory.mktemp("run"), ann=ann, images=x[:8], results=RESULTS)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network with many sites, whose names are long."""
    torch.manual_seed(0)
    layers = [layer for _ in range(40) for layer in (nn.Linear(6, 6), nn.ReLU())]
    ann = nn.Sequential()
    ann.add_module("a_body_with_a_name_that_is_long", nn.Sequential(*layers))
    x = torch.rand(16, 6)
    snn = calibrate(ann, [x], LCP(timesteps=2), progress=False)
    results = {**RESULTS, "model": "a_model_" * 20, "command": "python calibrate.py " + "x" * 300}
    return write_report(snn, tmp_path_factory.mktemp("deep"), ann=ann, images=x, results=results)


def look(browser: Any, page: Path, width: int, scheme: str) -> dict[str, Any]:
    """Open the page, and return what is to be seen."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}
    # On paper the scheme of the screen must not matter.
    dark = {"name": "prefers-color-scheme", "value": "light" if scheme == "light" else "dark"}
    media = "print" if scheme == "print" else "screen"
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [dark]})
    browser.get(page.as_uri())
    return browser.execute_script(MEASURE)


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("name", ["page", "deep"])
def test_the_page_in_a_browser(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int, scheme: str
) -> None:
    page = request.getfixturevalue(name)
    seen = look(browser, page, width, scheme)
    assert browser.get_log("browser") == []
    assert seen["sideways"] <= 0
    assert seen["paper"] == ("rgb(20, 23, 26)" if scheme == "dark" else "rgb(255, 255, 255)")
    assert seen["worst"]["text"] >= 4.5
    assert seen["worst"]["drawn"] >= 3
    assert len(seen["charts"]) == len(list((page.parent / "report").glob("*.csv")))
    for chart in seen["charts"]:
        assert width >= chart["width"] >= 300
        assert chart["height"] > 60
        assert chart["paths"] > 1
        assert chart["smallest"] >= 10
        assert chart["outside"] <= 1
    assert seen["beside"] == (width == SCREEN)


def test_a_chart_of_many_sites_grows_downward(browser: Any, page: Path, deep: Path) -> None:
    few, many = (look(browser, path, PHONE, "light")["charts"] for path in (page, deep))
    heights = [max(chart["height"] for chart in charts) for charts in (few, many)]
    assert heights[1] > 40 * 14 > heights[0]
    assert {round(chart["width"]) for chart in few} == {round(chart["width"]) for chart in many}
