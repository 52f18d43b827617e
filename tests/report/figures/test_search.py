"""What is drawn of a search are its trials."""

import pytest

from snn_lightning.analysis.trials import Trial
from snn_lightning.errors import SettingsError
from snn_lightning.report import plot_search


def trial(pipeline: str, timesteps: int, drop: float, energy: float | None = None) -> Trial:
    return Trial(pipeline, "if", timesteps, timesteps, 0.9, drop, drop <= 1, energy, 0.01, 1.0, 1.0)


def test_a_line_for_each_pipeline_and_a_level_for_the_budget() -> None:
    trials = [trial("lcp", 4, 2.0, 0.4), trial("lcp", 2, 5.0, 0.2), trial("acp", 2, 0.5)]
    figure = plot_search(trials, max_drop=1.0)
    times, energies = figure.axes
    lines = {line.get_label(): line for line in times.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["lcp, if", "acp, if", "budget"]
    assert [list(lines["lcp, if"].get_xdata()), list(lines["lcp, if"].get_ydata())] == [[2, 4], [5, 2]]
    assert list(lines["budget"].get_ydata()) == [1, 1]
    assert [label.get_text() for label in times.get_xticklabels()] == ["2", "4"]
    points = [line.get_markerfacecolor() for line in times.lines if len(line.get_xdata()) == 1]
    assert points.count("white") == 2
    # An ANN that takes no energy has no place there.
    of_energy = {line.get_label(): list(line.get_xdata()) for line in energies.lines}
    assert of_energy["lcp, if"] == [20, 40]
    assert of_energy["acp, if"] == []
    assert [text.get_text() for text in energies.texts] == ["T=2", "T=4"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)


def test_without_a_budget_or_trials() -> None:
    figure = plot_search([trial("lcp", 2, 1.0, 0.5)])
    assert "budget" not in [line.get_label() for line in figure.axes[0].lines]
    with pytest.raises(SettingsError, match="There are no trials to draw"):
        plot_search([])
