"""What the pages say of files, rooms and code is true."""

import copy
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import snn_lightning
from tests.callbacks.modules import Classifier, Data, make_trainer, pairs
from tests.detectors import detector, images
from tests.report.compare.made import results, save

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
ROOM = re.compile(r"^\s*(?:from|import) snn_lightning\.(\w+)", re.MULTILINE)
LONGEST, COLUMNS = 160, 5

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in FENCED.findall(page.read_text()) if found == language]


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_no_line_of_prose_is_long(page: Path) -> None:
    lines = FENCED.sub("", page.read_text()).splitlines()
    assert [line for line in lines if len(line) > LONGEST and not line.startswith(("|", "    "))] == []


@every_page
def test_named_scripts_exist(page: Path) -> None:
    for name in re.findall(r"\b(?:benchmarks|examples|tests|conf)/[\w/]+\.\w+", page.read_text()):
        of_a_run = name.startswith("benchmarks/results/") or "/my_" in name
        assert of_a_run or (ROOT / name).exists(), name


def test_the_tables_of_the_readme_are_small() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    assert rows
    assert [row for row in rows if row.count("|") - 1 > COLUMNS] == []


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = torch.linspace(0, 1, 32).reshape(8, 4)
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    names = {"ann": ann, "images": images, "loader": images.split(4)}
    exec(blocks(ROOT / "README.md", "python")[0], names)
    torch.testing.assert_close(names["at_each_step"][-1], names["logits"])
    assert torch.equal(names["snn"](images), names["logits"])


def test_the_page_on_analog_operators_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(blocks(ROOT / "docs" / "analog.md", "python")[0], names)
    assert "3 operators left analog, 2 windows" in capsys.readouterr().out
    assert torch.allclose(names["snn"](names["images"]).sum(1), torch.ones(32))


def test_the_detector_of_the_page_on_analog_operators_is_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(snn_lightning.ACP, weights=snn_lightning.Weights(4, batch_size=4))
    monkeypatch.setattr(snn_lightning, "ACP", quick)
    code = blocks(ROOT / "docs" / "analog.md", "python")[1]
    ann, pictures = detector("retinanet"), images(32)
    names = {"detector": ann, "loader": [pictures[i : i + 2] for i in range(0, 32, 2)], "images": pictures}
    exec(code, {"calibrate": snn_lightning.calibrate, **names}, names)
    with torch.no_grad():
        assert [set(boxes) for boxes in names["boxes"]] == [set(boxes) for boxes in ann(pictures)]
    assert names["spiking"].backbone.body.records[0]["steps"]["potential"]["channelwise"] == 1


def test_the_page_on_the_page_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = torch.linspace(0, 1, 32).reshape(8, 4)
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    (code,) = blocks(ROOT / "docs" / "report.md", "python")
    exec(code, {"ann": ann, "images": images, "loader": images.split(4)})
    assert {path.suffix for path in (tmp_path / "run" / "report").iterdir()} == {".csv"}
    assert "Where the error comes from" in (tmp_path / "run" / "report.html").read_text()


def test_the_page_on_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "budget.md", "python")[0], names)
    assert names["found"].met
    assert names["snn"].timesteps == names["found"].best.timesteps
    assert (tmp_path / "search" / "search.json").exists()


def test_the_page_on_comparing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "multirun", results(seed=0, snn=0.5), results(seed=1, snn=0.75))
    exec(blocks(ROOT / "docs" / "compare.md", "python")[0], {})
    assert "resnet20 on digits lcp Mean(mean=0.625, deviation=0.176" in capsys.readouterr().out
    assert (tmp_path / "accuracy.svg").exists()


def test_the_page_on_calibration_images_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for code in blocks(ROOT / "docs" / "data.md", "python"):
        names: dict[str, Any] = {}
        exec(code, names)
    assert capsys.readouterr().out == "{'real': 32, 'noise': 32}\n"
    assert torch.cat(names["batches"]).shape == (64, 1, 8, 8)


def test_the_page_on_sensitivity_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "sensitivity.md", "python")[0], names)
    assert capsys.readouterr().out.splitlines()[-2:] == ["analog:", f"  - '{names['worst'][0][1:]}'"]


def test_the_page_on_figures_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks(ROOT / "docs" / "figures.md", "python")[0], {})
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {
        f"{figure}.{kind}"
        for figure in ("errors", "rates", "thresholds", "spikes", "potentials")
        for kind in ("png", "svg")
    }


def test_the_data_of_the_page_on_detection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "detection.md", "python")[0], names)
    assert len(names["images"]) == len(names["targets"]) == 4
    assert (names["x"].shape, names["y"].shape) == ((4, 3, 64, 64), (4, 64, 64))
    assert names["data"].root == names["masks"].root


def test_the_detector_of_the_page_on_detection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "detection.md", "python")[1], names)
    assert [axes.get_title() for axes in names["figure"].axes[:3]] == ["target", "ANN", "SNN"]
    assert len(names["figure"].axes) == 3 * len(names["images"])
    assert (tmp_path / "detections.png").exists()


class Detector(nn.Module):
    """Has a part that `docs/lightning.md` converts."""

    def __init__(self) -> None:
        super().__init__()
        body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.backbone = nn.ModuleDict({"body": body})

    def forward(self, images: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.backbone["body"](image[None]).mean((2, 3)).sigmoid() for image in images]


def test_the_parts_of_a_model_in_the_page_on_lightning() -> None:
    images = [torch.linspace(0, 1, 3 * side * 8).reshape(3, side, 8) for side in (8, 10)]
    (code,) = [text for text in blocks(ROOT / "docs" / "lightning.md", "python") if "backbone.body" in text]
    names = {"detector": Detector(), "images": images, "loader": [images, images]}
    exec(code, names)
    assert [box.shape for box in names["boxes"]] == [(1, 4), (1, 4)]
    assert isinstance(names["snn"], snn_lightning.SpikingModel)
    assert names["uncalibrated"].backbone["body"].status == "uncalibrated"


def test_the_loggers_of_the_page_on_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, logger = Classifier(), TensorBoardLogger(tmp_path)
    ann, images = copy.deepcopy(model.net), next(iter(pairs()))[0]
    trainer = make_trainer(tmp_path, snn_lightning.CalibrationCallback(snn_lightning.LCP(3)), logger=logger)
    trainer.test(model, datamodule=Data(), verbose=False)
    (code,) = [text for text in blocks(ROOT / "docs" / "lightning.md", "python") if "log_report" in text]
    exec(code, {"model": model, "trainer": trainer, "ann": ann, "images": images})
    tags = EventAccumulator(logger.log_dir).Reload().Tags()
    charts = {f"report/{path.stem}" for path in (tmp_path / "run" / "report").glob("*.csv")}
    assert "report/errors" in charts
    assert set(tags["images"]) == charts
    assert {"report/text_summary", "snn/text_summary"} < set(tags["tensors"])


def test_the_page_on_synthesis_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "synthesis.md", "python")[0], names)
    assert names["images"].shape == names["others"].shape == (16, 3, 16, 16)
    assert len(list((tmp_path / "images").glob("image_*.png"))) == 16


def arrows() -> dict[str, set[str]]:
    """Which rooms each room imports, by the picture in docs/how_it_works.md."""
    _, picture = blocks(ROOT / "docs" / "how_it_works.md", "mermaid")
    picture = re.sub(r'\w+\["(\w+)"\]', r"\1", picture)
    found: dict[str, set[str]] = {}
    for room, others in re.findall(r"^ +(\w+) --> (.*)$", picture, re.MULTILINE):
        found.setdefault(room, set()).update(re.findall(r"\w+", others))
    return found


def reached(room: str, picture: dict[str, set[str]]) -> set[str]:
    direct = picture.get(room, set())
    return direct.union(*(reached(other, picture) for other in direct))


def test_the_picture_of_the_imports_is_true() -> None:
    picture = arrows()
    rooms = {path.parent.name for path in (ROOT / "snn_lightning").glob("*/__init__.py")}
    assert rooms - {"data"} == set(picture) | {"graph"}
    for room in rooms:
        files = (ROOT / "snn_lightning" / room).rglob("*.py")
        imported = {other for path in files for other in ROOM.findall(path.read_text())} & rooms - {room}
        assert picture.get(room, set()) <= imported, f"{room} doesn't import all that it points to"
        assert imported <= reached(room, picture), f"{room} imports more than it points to"


def test_the_newest_release_is_this_version() -> None:
    releases = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == snn_lightning.__version__
