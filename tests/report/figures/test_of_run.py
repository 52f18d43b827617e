import json
from pathlib import Path

import pytest
import torch
from torch import nn

from snn_lightning import convert
from snn_lightning.analysis.channels import channel_errors
from snn_lightning.analysis.energy import measure_energy
from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.report.figures.of_run import Subject, check_figures, read_numbers, save_run_figures
from snn_lightning.thresholds.errors import threshold_errors

IMAGES = torch.linspace(-1, 2, 24).reshape(6, 4)


@pytest.fixture
def subject() -> Subject:
    ann = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    for index, weights in enumerate(ann.parameters()):
        nn.init.constant_(weights, 0.1 * (index + 1))
    return Subject(ann, convert(ann, IMAGES, timesteps=8), [IMAGES[:4], IMAGES[4:]], "lcp")


def test_numbers_and_drawings_of_every_figure(subject: Subject, tmp_path: Path) -> None:
    names = ["channel_errors", "firing_rates", "threshold_errors"]
    files = save_run_figures(names, subject, tmp_path / "figures")
    drawn = ["channel_errors", "firing_rates", "threshold_errors__1", "threshold_errors__3"]
    expected = [f"{name}.{suffix}" for name in drawn for suffix in ("png", "svg")]
    assert sorted(file.name for file in files) == sorted([*expected, *(f"{name}.json" for name in names)])
    assert all(file.stat().st_size for file in files)

    errors = read_numbers(tmp_path / "figures" / "channel_errors.json")
    assert errors["label"] == "lcp"
    assert errors["sites"] == {
        site: values.tolist() for site, values in channel_errors(subject.ann, subject.snn, IMAGES).items()
    }
    rates = json.loads((tmp_path / "figures" / "firing_rates.json").read_text())
    assert rates["timesteps"] == 8
    # Batches of four and two images count by their images.
    assert rates["sites"] == pytest.approx(measure_energy(subject.snn, IMAGES).firing_rates)
    chosen = read_numbers(tmp_path / "figures" / "threshold_errors.json")["sites"]
    found = threshold_errors(subject.ann[:2](IMAGES).detach(), [2, 4, 8])
    assert chosen["_1"]["maximum"] == pytest.approx(found.maximum)
    assert chosen["_1"]["mmse"] == pytest.approx({str(t): v for t, v in found.mmse.items()})
    assert list(chosen) == ["_1", "_3"]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["channel_error"], "did you mean 'channel_errors'"), ("firing_rates", "must be a list")],
)
def test_other_figures_are_refused(names: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_figures(names)


@pytest.mark.parametrize("name", ["channel_errors", "threshold_errors"])
def test_images_of_several_sizes_are_refused(name: str, tmp_path: Path) -> None:
    ann = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    snn = convert(ann, torch.rand(2, 1, 4, 4), timesteps=2)
    subject = Subject(ann, snn, [torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 6)], "lcp")
    with pytest.raises(SettingsError, match=rf"figures=\[{name}\] .* several sizes: set data.batch_size"):
        save_run_figures([name], subject, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"label": "lcp"}'])
def test_numbers_that_are_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "channel_errors.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"run its job with figures=\[channel_errors\]"):
        read_numbers(path)
    with pytest.raises(CheckpointError, match="hasn't the numbers"):
        read_numbers(tmp_path / "missing.json")
