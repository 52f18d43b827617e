"""The figure of a search for the fewest time steps."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from snn_lightning.analysis.trials import Trial
from snn_lightning.errors import SettingsError
from snn_lightning.report.style import GREY, looks, panels, styled


def plot_search(trials: Sequence[Trial], max_drop: float | None = None) -> Figure:
    """Draw what the SNNs of a search lose, against time steps and against energy.

    A line is a pipeline with a kind of neurons; trials within the budget are filled.

    Args:
        trials: from `BudgetResult.trials`.
        max_drop: the budget, drawn as a level.

    Raises:
        SettingsError: there is no trial.

    Example:
        >>> trial = Trial("lcp", "if", 4, 4, 0.9, 1.5, False, 0.2, 0.01, 3.0, 3.0)
        >>> [axes.get_xlabel() for axes in plot_search([trial], max_drop=1).axes]
        ['time steps of an inference', "energy of an inference (% of the ANN's)"]
    """
    if not trials:
        raise SettingsError("There are no trials to draw: pass those of a search, calibrate_to(...).trials")
    lines: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda one: one.latency_steps):
        lines.setdefault(f"{trial.pipeline}, {trial.neuron}", []).append(trial)
    with styled():
        figure, axes = panels(12, 5.2, columns=2, sharey=True)
        times = sorted({trial.latency_steps for trial in trials})
        for (colour, marker), (label, found) in zip(looks(len(lines)), lines.items(), strict=True):
            known = [one for one in found if one.energy_ratio is not None]
            energies = [100 * (one.energy_ratio or 0.0) for one in known]
            for axis, x, shown in (
                (axes[0], [float(one.latency_steps) for one in found], found),
                (axes[1], energies, known),
            ):
                drops = [one.drop for one in shown]
                axis.plot(x, drops, color=colour, label=label)
                for at, one in zip(x, shown, strict=True):
                    fill = colour if one.met else "white"
                    axis.plot(at, one.drop, marker, color=colour, markerfacecolor=fill, markeredgewidth=1.6)
            for at, one in zip(energies, known, strict=True):
                place = (at, one.drop)
                axes[1].annotate(
                    f"T={one.timesteps}", place, (7, 5), textcoords="offset points", color=colour
                )
        for axis in axes:
            if max_drop is not None:
                axis.axhline(max_drop, color=GREY, linestyle="--", label="budget")
        axes[0].set_ylabel("loss against the ANN (points)")
        axes[0].set_xscale("log", base=2)
        axes[0].set_xticks(times, [str(t) for t in times])
        axes[0].minorticks_off()
        axes[0].set_xlabel("time steps of an inference")
        axes[1].set_xlim(left=0)
        axes[1].margins(x=0.1)
        axes[1].set_xlabel("energy of an inference (% of the ANN's)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure
