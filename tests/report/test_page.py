"""The page says what the measuring functions say, and what it can't say it leaves out with a reason."""

import base64
import copy
import re
from html import unescape
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

import snn_lightning
from snn_lightning import (
    ACP,
    IF,
    Parallel,
    SpikingModel,
    Weights,
    calibrate,
    convert,
    load_converted,
    save_converted,
)
from snn_lightning.analysis.activity import measure_activity
from snn_lightning.analysis.energy import EnergyModel, measure_energy
from snn_lightning.analysis.firing import measure_firing
from snn_lightning.analysis.mismatch import PARTS, measure_mismatch
from snn_lightning.analysis.sensitivity import analog_setting, sensitivity
from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.report import write_report
from snn_lightning.report.collect import Contents
from snn_lightning.report.run import over_time
from tests.toys import PlainConv, inputs, toy

from .support import RESULTS, calibrated, column, distilled, rows, uncalibrated, words

SECTIONS = [
    "Accuracy against time",
    "The network as it was converted",
    "Error of every site before and after calibration",
    "Where the error comes from",
    "Which sites matter",
    "Firing rates",
    "Energy by stage",
    "Loss curves",
    "Seconds",
    "Warnings",
    "Settings, versions and how to repeat it",
]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ann, snn, x = calibrated()
    folder = tmp_path_factory.mktemp("run")
    page = write_report(snn, folder, ann=ann, before=uncalibrated(), images=x[:20], results=RESULTS)
    assert page == folder / "report.html"
    return folder


def test_the_sections_in_their_order(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", text) == SECTIONS
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')


def test_the_head(folder: Path) -> None:
    ann, snn, x = calibrated()
    energy = measure_energy(snn, x[:20], ann=ann)
    skipping = cast(float, energy.skipping_ratio)
    assert words(folder / "report.html").startswith(
        "resnet20 on digits pipeline acp, T=2, 5 sites are IF() neurons, calibrated accuracy, ANN 99.72 % "
        "accuracy, uncalibrated SNN 41.00 % accuracy, calibrated SNN 98.89 % "
        f"energy, of the ANN's {100 * energy.ratio:.2f} % "
        f"energy, of a zero-skipping ANN's {100 * skipping:.2f} %"
    )


def test_nothing_comes_from_elsewhere(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "<script" not in text
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", text)
    assert {link for link in links if not link.startswith("#")} == {
        f"report/{path.name}" for path in (folder / "report").iterdir()
    }
    assert "url(http" not in text
    assert "@import" not in text


def test_the_images_that_were_made(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    Image.new("L", (4, 2), 77).save(sheet)
    source = {"data_source": "folder+synthetic", "calibration_images": {"folder": 100, "synthetic": 156}}
    snn = calibrated()[1]
    page = write_report(snn, tmp_path, results={**RESULTS, **source}, contact_sheet=sheet)
    shown = words(page)
    assert "calibrated with 100 images of a folder and 156 made from the ANN accuracy" in shown
    assert "The calibration images 100 images of a folder and 156 made from the ANN." in shown
    (address,) = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page.read_text())
    assert base64.b64decode(address) == sheet.read_bytes()
    assert "img-src data:" in page.read_text()
    with pytest.raises(SettingsError, match=r"contact_sheet: '.*none\.png' can't be read"):
        write_report(snn, tmp_path, contact_sheet=tmp_path / "none.png")


def test_ids_are_there_once(folder: Path) -> None:
    ids = re.findall(r" id=\"([^\"]*)\"", (folder / "report.html").read_text())
    assert len(ids) == len(set(ids))


def test_every_chart_says_what_it_shows(folder: Path) -> None:
    charts = re.findall(r"<svg .*?</svg>", (folder / "report.html").read_text(), re.DOTALL)
    assert len(charts) == len(list((folder / "report").iterdir())) == 11
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.get("role") == "img"
        title = root[0]
        assert title.tag == f"{SVG}title"
        assert title.get("id") == root.get("aria-labelledby")
        assert len(title.text or "") > 10
        assert root.find(f".//{SVG}path") is not None


def test_scores_over_time(folder: Path) -> None:
    assert rows(folder, "accuracy_over_time") == [
        {"t": "1", "SNN": "0.5", "ANN": "0.9972", "uncalibrated SNN": ""},
        {"t": "2", "SNN": "0.9889", "ANN": "0.9972", "uncalibrated SNN": "0.41"},
    ]
    assert "From t=2 on the SNN's accuracy is within a point of the ANN's." in words(folder / "report.html")


def test_of_neurons_that_wait_the_time_is_that_of_the_readout() -> None:
    results = {"ann_accuracy": 0.9, "snn_accuracy": 0.9, "accuracy_over_time": [0.1, 0.9]}
    for neuron, more in (
        (IF(), []),
        (Parallel(), ["t counts the last 2 of the 6 time steps that an inference takes."]),
    ):
        snn = convert(toy(PlainConv), inputs(PlainConv, 4), 2, neuron=neuron)
        section = over_time(Contents("toy", snn.report, snn.conversion, (), results))
        assert section.texts == ["From t=2 on the SNN's accuracy is within a point of the ANN's.", *more]


def test_the_network(folder: Path) -> None:
    snn, page = calibrated()[1], words(folder / "report.html")
    assert snn.report.summary in page
    assert all(line in page for line in snn.report.footer())
    for row, (name, spread) in zip(rows(folder, "thresholds"), snn.report.thresholds.items(), strict=True):
        assert row["site"] == name
        assert [float(row[key]) for key in ("smallest", "median", "largest")] == list(spread)
    assert "relu spikes relu 512 8 × 8 × 8 Conv2d relu_1 spikes relu 512 8 × 8 × 8 Conv2d" in page
    assert "readout_head readout – – – " in page


def test_errors_before_and_after(folder: Path) -> None:
    ann, snn, x = calibrated()
    before, after = (measure_mismatch(ann, network, x[:20]) for network in (uncalibrated(), snn))
    assert [row["stage"] for row in rows(folder, "errors")] == [stage.name for stage in after.stages]
    assert column(folder, "errors", "after") == [stage.total for stage in after.stages]
    assert column(folder, "errors", "before") == [stage.total for stage in before.stages]


def test_where_the_error_comes_from(folder: Path) -> None:
    ann, snn, x = calibrated()
    report = measure_mismatch(ann, snn, x[:20])
    assert column(folder, "mismatch", "total") == [stage.total for stage in report.stages]
    for part in PARTS:
        assert column(folder, "mismatch", part) == [getattr(stage.shares, part) for stage in report.stages]


def test_which_sites_matter(folder: Path) -> None:
    ann, snn, x = calibrated()
    report = sensitivity(ann, snn, x[:8], probes=16)
    assert [row["site"] for row in rows(folder, "sites")] == list(report.worst())
    assert column(folder, "sites", "output error") == [row.predicted for row in report.rows]
    assert analog_setting(ann, snn, report.worst(2)) in unescape((folder / "report.html").read_text())
    page = words(folder / "report.html")
    assert "on 8 images; the 5 worst of 5 sites" in page
    assert "simulate its own effect with measured_effect(ann, snn, images, local=True)" in page


class Decided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (2 * x.relu()).argmax(1)


def test_sites_that_cant_be_ranked_cost_no_page(tmp_path: Path) -> None:
    x = torch.rand(4, 3)
    page = write_report(convert(Decided(), x, 2, analog="auto"), tmp_path, ann=Decided(), images=x)
    assert "Which sites matter Not measured: The network's output has no gradient" in words(page)
    assert not (tmp_path / "report" / "sites.csv").exists()


def test_firing_rates(folder: Path) -> None:
    snn, x = calibrated()[1:]
    sites = measure_firing(snn, x[:20]).sites
    assert column(folder, "firing_rates", "rate") == [site.rate for site in sites]
    assert column(folder, "firing_rates", "least") == [min(site.channels) for site in sites]
    assert column(folder, "firing_rates", "most") == [max(site.channels) for site in sites]
    assert column(folder, "firing_rates", "silent") == [site.silent for site in sites]


def test_energy(folder: Path) -> None:
    ann, snn, x = calibrated()
    report = measure_energy(snn, x[:20], ann=ann)
    model, stages = report.model, report.stages
    assert column(folder, "energy", "SNN, µJ") == [1e-6 * model.snn(stage) for stage in stages]
    assert column(folder, "energy", "ANN, µJ") == [1e-6 * model.ann(stage) for stage in stages]
    skipping = [1e-6 * model.skipping(stage) for stage in stages]
    assert column(folder, "energy", "zero-skipping ANN, µJ") == skipping
    assert sum(skipping) < 0.9 * sum(column(folder, "energy", "ANN, µJ"))
    assert column(folder, "energy", "additions") == [stage.accumulates for stage in report.stages]


def test_losses(folder: Path) -> None:
    records = calibrated()[1].records
    expected = [record["steps"]["weights"][f"loss_{i}"] for record in records for i in range(4)]
    assert column(folder, "weight_losses", "loss") == expected
    assert column(folder, "weight_losses", "iteration") == [0, 1, 2, 3] * 6


def test_seconds(folder: Path) -> None:
    assert rows(folder, "seconds_by_phase") == [
        {"phase": "pretrain", "seconds": "12.5"},
        {"phase": "SNN test", "seconds": "1.25"},
    ]
    seconds = [record["seconds"] for record in calibrated()[1].records]
    assert column(folder, "seconds_by_stage", "seconds") == seconds
    steps = ["observe", "threshold", "weights", "potential", "fire"]
    assert [row["step"] for row in rows(folder, "seconds_by_step")] == steps


def test_bytes_where_they_have_been_counted(tmp_path: Path, folder: Path) -> None:
    assert "Bytes to be stored" not in words(folder / "report.html")
    counted = {"parameter_bytes": {"thresholds": 80, "biases": 0, "potentials": 2_000_000, "weights": 0}}
    page = words(write_report(calibrated()[1], tmp_path, results={**RESULTS, **counted}))
    assert "Bytes to be stored for this T" in page
    assert re.search(
        r"thresholds\s+80 B\s+biases\s+0 B\s+potentials\s+2.00 MB\s+weights\s+0 B\s+in all\s+2.00 MB", page
    )


def test_how_to_repeat_it(folder: Path) -> None:
    page = words(folder / "report.html")
    assert "Seed 3. This command does it again: python calibrate.py pipeline=acp T=2 'data.root=my " in page
    assert f"snn_lightning {snn_lightning.__version__} python" in page
    assert f"torch {torch.__version__.split('+')[0]}" in page
    assert "conversion.timesteps 2" in page
    assert "model.name resnet20 model.width 64" in page


def test_the_same_numbers_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    ann, snn, x = calibrated()
    before = copy.deepcopy(snn.records)
    write_report(snn, tmp_path, ann=ann, before=uncalibrated(), images=x[:20], results=RESULTS)
    for path in [tmp_path / "report.html", *(tmp_path / "report").iterdir()]:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()
    assert snn.records == before


def test_a_step_on_the_whole_network(tmp_path: Path) -> None:
    ann, snn, x = distilled()
    page = words(write_report(snn, tmp_path, ann=ann, images=x))
    numbers = snn.records[-1]["steps"]["distillation"]
    assert "Before is not known here" in page
    assert "The step distillation on the whole network has brought the error of its outputs on the" in page
    assert len(rows(tmp_path, "errors")) == 2
    assert column(tmp_path, "distillation_loss", "loss") == [numbers[f"loss_{i}"] for i in range(6)]
    assert not (tmp_path / "report" / "weight_losses.csv").exists()
    assert rows(tmp_path, "seconds_by_stage")[-1]["stage"] == "distillation"


def test_of_a_loaded_network_it_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    snn = calibrated()[1]
    save_converted(snn, tmp_path / "snn.ckpt")
    page = write_report(load_converted(tmp_path / "snn.ckpt"), tmp_path)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["thresholds.csv"]
    text = words(page)
    assert text.startswith("Spiking network T=2, 5 sites are IF() neurons, calibrated Accuracy")
    assert (
        text.count("the program that calibrates an SNN knows what each step did, and checkpoints don't") == 2
    )
    assert text.count("Not measured: it takes images") == 2
    assert text.count("Not measured: it takes the ANN and images") == 2
    assert text.count("Not known here: pass the results of a run") == 2
    assert "Warnings None." in text
    assert "No command is known" in text


def test_records_of_results_stand_in(tmp_path: Path) -> None:
    snn = calibrated()[1]
    save_converted(snn, tmp_path / "snn.ckpt")
    loaded = load_converted(tmp_path / "snn.ckpt")
    write_report(loaded, tmp_path, results={"stages": snn.records})
    assert column(tmp_path, "errors", "after") == [record["error"] for record in snn.records]


def test_an_uncalibrated_network(tmp_path: Path) -> None:
    ann, _, x = calibrated()
    page = words(write_report(convert(ann, x, 2), tmp_path, ann=ann, images=x[:4]))
    assert page.startswith("Residual T=2, 5 sites are IF() neurons, uncalibrated energy")
    assert len(rows(tmp_path, "mismatch")) == 6


def test_other_scores_at_some_times(tmp_path: Path) -> None:
    results = {
        "scores": ["map50", "recall"],
        "times": [1, 4, 16],
        "ann_map50": 0.5,
        "snn_map50": 0.46,
        "map50_over_time": [0.1, 0.3, 0.46],
        "snn_recall": 0.7,
        "recall_over_time": [0.2, 0.6, 0.7],
    }
    page = words(write_report(calibrated()[1], tmp_path, results=results))
    assert "mAP50, ANN 50.00 % mAP50, calibrated SNN 46.00 % recall, calibrated SNN 70.00 %" in page
    assert "Scores against time After t=16 the SNN's mAP50 is 4.00 points below the ANN's." in page
    assert column(tmp_path, "map50_over_time", "t") == [1, 4, 16]
    assert column(tmp_path, "recall_over_time", "SNN") == [0.2, 0.6, 0.7]


def test_a_part_of_a_model_with_an_analog_operator(tmp_path: Path) -> None:
    layers = [
        nn.Linear(4, 5),
        nn.ReLU(),
        nn.Linear(5, 5),
        nn.Sigmoid(),
        nn.Linear(5, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    ]
    ann, x = nn.Sequential(*layers), torch.rand(8, 4)
    snn = convert(ann, x, 2, analog=("3",))
    page = words(write_report(snn, tmp_path, ann=ann, images=x))
    assert "1 operator left analog, 2 windows of T time steps" in page
    assert "Linear, analog" in page
    assert "An inference takes 2 x 2 = 4 time steps." in page


def test_what_stays_analog_is_named_with_its_share(tmp_path: Path) -> None:
    ann, x = (
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)),
        torch.rand(8, 4),
    )
    page = words(write_report(convert(ann, x, 2, analog=("2",)), tmp_path, ann=ann, images=x))
    assert (
        "41.7 % of the ANN's multiply-accumulates stay analog, most of them in the stages of _3 (41.7 %)"
        in page
    )


def test_the_only_site_is_not_left_analog(tmp_path: Path) -> None:
    ann, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), torch.rand(8, 4)
    page = write_report(convert(ann, x, 2), tmp_path, ann=ann, images=x)
    assert "worst analog" not in words(page)
    assert len(rows(tmp_path, "sites")) == 1


HOSTILE = "<script>alert(1)</script>\"'&$x$\x00"


def test_hostile_names_are_text(tmp_path: Path) -> None:
    _, snn, _ = distilled()
    results = {"model": HOSTILE, "data": HOSTILE, "command": HOSTILE, "config": {HOSTILE: HOSTILE}}
    results |= {"seconds": {HOSTILE: 1.0}, "scores": ["../s"], "../s_over_time": [0.5, 0.5]}
    page = write_report(snn, tmp_path, results=results)
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert all("\x00" not in svg for svg in re.findall(r"<svg .*?</svg>", text, re.DOTALL))
    assert rows(tmp_path, "seconds_by_phase")[0]["phase"] == HOSTILE
    assert column(tmp_path, "___s_over_time", "SNN") == [0.5, 0.5]


def test_activity_that_has_been_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, snn, x = calibrated()
    activity = measure_activity(snn, x[:3])
    monkeypatch.setattr(SpikingModel, "forward", lambda *_: pytest.fail("simulated again"))
    write_report(snn, tmp_path, activity=activity)
    assert column(tmp_path, "firing_rates", "rate") == [site.rate for site in activity.firing.sites]


def test_energy_at_other_prices(tmp_path: Path) -> None:
    ann, snn, x = calibrated()
    dear = EnergyModel(mac=100.0, ac=50.0, weight=10.0, spike=1.0)
    report = measure_energy(snn, x[:3], ann=ann, model=dear)
    measurements = {"measured": {"activity": measure_activity(snn, x[:3], ann=ann)}, "not": {"ann": ann}}
    for name, given in measurements.items():
        write_report(snn, tmp_path / name, images=x[:3], energy=dear, **given)
        spent = column(tmp_path / name, "energy", "SNN, µJ")
        assert spent == [1e-6 * dear.snn(stage) for stage in report.stages]
        page = words(tmp_path / name / "report.html")
        assert f"energy, of the ANN's {100 * report.ratio:.2f} %" in page
        paid = "Prices: 50 pJ an accumulate, 100 pJ a MAC, 1 pJ a spike or activation, 10 pJ a weight."
        assert f"{paid} Not counted: neurons." in page
    with pytest.raises(SettingsError, match="energy must be an EnergyModel"):
        write_report(snn, tmp_path, energy=0.9)  # type: ignore[arg-type]


def test_a_network_without_synapses_takes_no_energy(tmp_path: Path) -> None:
    snn = convert(nn.ReLU(), torch.ones(1, 2), 2)
    write_report(snn, tmp_path, ann=nn.ReLU(), images=torch.ones(1, 2))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "errors.csv",
        "firing_rates.csv",
        "mismatch.csv",
        "sites.csv",
        "thresholds.csv",
    ]


def test_a_network_without_synapses_may_pay_for_memory(tmp_path: Path) -> None:
    snn = convert(nn.ReLU(), torch.ones(1, 2), 2)
    write_report(snn, tmp_path, images=torch.ones(1, 2), energy=EnergyModel(spike=1000.0))
    # Both neurons fire at both steps; the ANN has two activations.
    assert [column(tmp_path, "energy", f"{of}, nJ") for of in ("SNN", "ANN")] == [[4], [2]]


def test_what_is_refused(tmp_path: Path) -> None:
    ann, snn, x = calibrated()
    with pytest.raises(
        SettingsError, match="about one SpikingModel, got Residual: pass the part that spikes"
    ):
        write_report(ann, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="images must be a tensor"):
        write_report(snn, tmp_path, images=x[:0])
    with pytest.raises(SettingsError, match="before has T=4 and snn T=2: convert it with timesteps=2"):
        write_report(snn, tmp_path, before=convert(ann, x, 4))
    with pytest.raises(SettingsError, match="The SNN is not of this ANN"):
        write_report(snn, tmp_path, ann=nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), images=x[:2])
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"Could not write '.*thresholds.csv'"):
        write_report(snn, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_charts_as_images(tmp_path: Path) -> None:
    ann, snn, x = distilled()
    page = write_report(snn, tmp_path, ann=ann, images=x, results=RESULTS, png=True)
    numbers = re.findall(r'href="report/([^"]*)[.]csv"', page.read_text())
    written = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert written == sorted(f"{name}.{kind}" for name in numbers for kind in ("csv", "png"))
    with Image.open(tmp_path / "report" / "errors.png") as image:
        assert image.info["Title"] == "Relative error of 2 stages before and after their calibration"
    text = page.read_text()
    # They would be those of another network.
    write_report(snn, tmp_path, ann=ann, images=x, results=RESULTS)
    assert page.read_text() == text
    assert sorted(path.stem for path in (tmp_path / "report").iterdir()) == sorted(numbers)


def test_numbers_that_an_earlier_page_has_left_are_deleted(tmp_path: Path) -> None:
    ann, snn, x = distilled()
    write_report(snn, tmp_path, ann=ann, images=x, results=RESULTS)
    (tmp_path / "report" / "own.csv").touch()
    page = write_report(snn, tmp_path)
    kept = {path.name for path in (tmp_path / "report").iterdir()}
    assert kept == {*re.findall(r'href="report/([^"]*)"', page.read_text()), "own.csv"}
    assert "errors.csv" in kept
    assert "sites.csv" not in kept


def test_results_that_are_none_are_not_known(tmp_path: Path) -> None:
    snn = calibrated()[1]
    keys = ("seconds", "config", "command", "scores", "times", "accuracy_over_time", "model", "seed")
    nothing = words(write_report(snn, tmp_path / "nothing"))
    assert words(write_report(snn, tmp_path / "none", results=dict.fromkeys(keys))) == nothing


def test_results_that_make_no_sense_are_named(tmp_path: Path) -> None:
    snn = calibrated()[1]
    with pytest.raises(SettingsError, match=r"results\['scores'\] must be a list of names .*, got 'map'"):
        write_report(snn, tmp_path, results={"scores": "map"})
    with pytest.raises(
        SettingsError, match=r"'times'\] .* results\['accuracy_over_time'\], which has 3, got 2"
    ):
        write_report(snn, tmp_path, results={"times": [1, 2], "accuracy_over_time": [0.1, 0.2, 0.3]})


@pytest.mark.parametrize("nan", [float("nan"), None])
def test_scores_that_are_no_numbers_are_a_warning(tmp_path: Path, nan: float | None) -> None:
    """In a run they are NaN, and read from `results.json` None."""
    results = {"ann_accuracy": nan, "snn_accuracy": nan, "accuracy_over_time": [nan, nan]}
    page = words(write_report(calibrated()[1], tmp_path, results=results))
    assert "The accuracy is not a finite number everywhere" in page
    assert "nan points" not in page


def test_it_is_a_public_name() -> None:
    assert snn_lightning.write_report is write_report


LARGEST = 2_000_000
"""Bytes."""


class Deep(nn.Module):
    """As many sites as ResNet-34, and their names."""

    def __init__(self) -> None:
        super().__init__()
        for layer, blocks in enumerate((3, 4, 6, 3), 1):
            for block in range(blocks):
                relus = nn.ModuleDict({f"relu{i}": nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for i in (1, 2)})
                self.add_module(f"layer{layer}_{block}", relus)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, block in self.named_children():
            if name != "fc":
                x = x + block["relu2"](block["relu1"](x))  # type: ignore[index, operator]
        return self.fc(x)


def check_size(ann: nn.Module, x: torch.Tensor, folder: Path, sites: int) -> None:
    weights = Weights(iterations=21, batch_size=len(x))
    snn = calibrate(ann.eval(), [x], ACP(timesteps=2, weights=weights), progress=False)
    page = write_report(snn, folder, ann=ann, images=x, results=RESULTS)
    assert len(rows(folder, "firing_rates")) == sites
    assert len(rows(folder, "weight_losses")) == 21 * (sites + 1)
    assert 100_000 < page.stat().st_size < LARGEST


def test_the_size_for_as_many_sites_as_in_resnet34(tmp_path: Path) -> None:
    torch.manual_seed(0)
    check_size(Deep(), torch.rand(8, 4), tmp_path, 32)


@pytest.mark.slow
def test_the_size_for_resnet34(tmp_path: Path) -> None:
    torch.manual_seed(0)
    check_size(torchvision.models.resnet34(num_classes=10), torch.rand(8, 3, 32, 32), tmp_path, 33)
