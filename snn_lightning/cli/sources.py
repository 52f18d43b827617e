"""The calibration images that a config asks for, those of the ANN among them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from torch import Tensor
from torch.utils.data import DataLoader

from snn_lightning.callbacks.preparation import same_weights, together
from snn_lightning.callbacks.synthetic import ImageForm, make_images
from snn_lightning.cli.experiment import Experiment
from snn_lightning.synthesis import Synthesis, estimate
from snn_lightning.training.synthesis import SynthesisModule

SHEET = "contact_sheet.png"


def check_source(experiment: Experiment) -> None:
    """Say before hours of pretraining what is wrong with the calibration images, or can't be made.

    Raises:
        SNNLightningError: naming the setting, the file or the network.
    """
    counts = experiment.calibration_images.counts
    if "synthetic" not in counts:
        return
    with _synthesis(experiment):
        pass


def synthesis_cost(experiment: Experiment) -> str:
    """Say what it will cost to make the images of the ANN; nothing where there are none."""
    counts = experiment.calibration_images.counts
    if "synthetic" not in counts:
        return ""
    with _synthesis(experiment) as module:
        module.to(experiment.trainer.strategy.root_device)
        cost = estimate(module.synthesiser(), min(module.count, module.settings.batch_size))
    batches = f"{module.total} batch{'es' * (module.total > 1)}"
    return f"Making {module.count} images from the ANN, {batches}: {cost}"


@contextmanager
def _synthesis(experiment: Experiment) -> Iterator[SynthesisModule]:
    """Give what would make the images, with a folder for the while."""
    form, count = ImageForm.of(experiment.data), experiment.calibration_images.counts["synthetic"]
    options: dict[str, Any] = {"channels": form.channels, "mean": form.mean, "std": form.std}
    with tempfile.TemporaryDirectory() as folder:
        net, settings = experiment.module.net, _settings(experiment)
        yield SynthesisModule(net, count, form.size, settings, folder=folder, **options)


def calibration_loader(experiment: Experiment) -> DataLoader[Any]:
    """Return batches of calibration images; those of the ANN are made now, unless an earlier run has done it.

    They are kept in `cache_dir`; the run's folder gets their contact sheet.
    """

    def made(count: int) -> Tensor:
        trainer, module = experiment.trainer, experiment.module
        with experiment.phase("synthesis", f"Making {count} images from the ANN"), together(trainer) as group:
            module.to(trainer.strategy.root_device)  # a test ends with the module on the CPU
            same_weights(module, group)
            form, cache = ImageForm.of(experiment.data), Path(experiment.config["cache_dir"]) / "synthetic"
            found = make_images(module.net, count, form, _settings(experiment), cache, group, progress=True)
        if trainer.is_global_zero:
            shutil.copyfile(found.contact_sheet, experiment.folder / SHEET)
        return found.images

    return experiment.calibration_images.loader(made)


def contact_sheet(experiment: Experiment) -> Path | None:
    """Return the contact sheet of the run's synthetic images, where it has any."""
    return experiment.folder / SHEET if "synthetic" in experiment.source.names else None


def _settings(experiment: Experiment) -> Synthesis:
    return cast(Synthesis, instantiate(experiment.config["synthesis"]))
