"""Figures as files."""

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
