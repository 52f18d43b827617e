"""The figures that a config asks for."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from snn_lightning.cli.experiment import Experiment
from snn_lightning.errors import SettingsError
from snn_lightning.report.figures import of_run
from snn_lightning.settings import check_whole


def check_figures(experiment: Experiment) -> None:
    """Say before hours of pretraining which figures can't be drawn.

    Raises:
        SettingsError: naming the setting.
    """
    config = experiment.config
    of_run.check_figures(config["figures"])
    check_whole("figure_images", config["figure_images"], optional=True)
    if config["figures"] and config["unit_spikes"]:
        raise SettingsError(
            "figures compare activations, which unit_spikes=true rescales: leave one of them out"
        )


def save_figures(experiment: Experiment, ann: nn.Module) -> None:
    """Write the figures of a run that is through, on process 0.

    Args:
        experiment: the run; its module holds the SNN.
        ann: the part of the network that has been converted, as it was.
    """
    names, snn = experiment.config["figures"], experiment.module.spiking
    if not (names and snn is not None and experiment.trainer.is_global_zero):
        return
    device = next(snn.parameters()).device
    label = str(experiment.config["pipeline_name"])
    subject = of_run.Subject(ann.to(device).eval(), snn.eval(), _Batches(experiment), label)
    files = of_run.save_run_figures(names, subject, experiment.folder / "figures")
    experiment.say(f"Figures: {files[0].parent}")


class _Batches:
    """What the network, or its part, receives of the test images; to be read more than once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def __iter__(self) -> Iterator[Tensor]:
        left = self.experiment.config["figure_images"]
        for images in self.experiment.test_batches():
            yield images[:left]
            left = None if left is None else left - len(images)
            if left is not None and left <= 0:
                return
