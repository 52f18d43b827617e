"""Figures as files."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from snn_lightning.errors import CheckpointError
from snn_lightning.report import plot_firing_rates, save_figure


def test_both_files_are_written(tmp_path: Path) -> None:
    png, svg = save_figure(plot_firing_rates({"lcp": {"relu": 0.1}}), tmp_path / "new" / "v1.0")
    assert (png.name, svg.name) == ("v1.0.png", "v1.0.svg")
    assert sorted(path.name for path in png.parent.iterdir()) == ["v1.0.png", "v1.0.svg"]
    with Image.open(png) as image:
        assert image.info["dpi"][0] >= 150
        assert image.width >= 8 * 150
    assert svg.read_text().startswith("<?xml")
    assert "</svg>" in svg.read_text()


def test_a_figure_gives_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = (
        save_figure(plot_firing_rates({"lcp": {"relu": 0.1}}), tmp_path / name) for name in ("a", "b")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Could not write"):
        save_figure(plot_firing_rates({"lcp": {"relu": 0.1}}), tmp_path / "file" / "rates")


def test_pyplot_is_never_imported_and_matplotlib_only_here(tmp_path: Path) -> None:
    code = """
import sys, torch, snn_lightning
assert "matplotlib" not in sys.modules
from snn_lightning.report import *
from snn_lightning.thresholds.errors import threshold_errors
from snn_lightning.report.compare.methods import Method, Panel
from snn_lightning.report.compare.runs import Run
run = Run("results.json", {"snn_accuracy": 0.7, "ann_accuracy": 0.9, "energy_ratio": 0.2}, 0.0)
compared = [Panel("vgg16", "digits", "accuracy", [], [Method("lcp", {}, {4: [run]})])]
plot_accuracy(compared)
plot_accuracy_against_energy(compared)
plot_threshold_errors(threshold_errors(torch.rand(8, 2), [2, 4]))
plot_spikes({"relu": torch.ones(2, 1, 3)})
save_figure(plot_channel_errors({"lcp": {"relu": torch.rand(8)}}), "errors")
assert "matplotlib.pyplot" not in sys.modules
"""
    env = {"PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=env)
    assert (tmp_path / "errors.svg").is_file()
