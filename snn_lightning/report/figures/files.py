"""Write figures."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from snn_lightning.files import write_atomically
from snn_lightning.report.style import styled


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write a figure as PNG (160 dots an inch) and as SVG, each whole or not at all.

    The same figure gives the same bytes.

    Args:
        figure: from a function `plot_...`.
        path: without a suffix; its folder is made where it is missing.

    Returns:
        The two files.

    Raises:
        CheckpointError: the disk is full or the folder can't be written.

    Example:
        >>> from snn_lightning.report import plot_firing_rates
        >>> [file.name for file in save_figure(plot_firing_rates({"lcp": {"relu": 0.1}}), "rates")]
        ['rates.png', 'rates.svg']
    """
    path = Path(path)
    files = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
    for file, metadata in zip(files, ({"Software": None}, {"Date": None}), strict=True):
        content = io.BytesIO()
        with styled():
            figure.savefig(content, format=file.suffix[1:], metadata=metadata)
        write_atomically(file, content.getvalue())
    return files
