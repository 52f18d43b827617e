"""The parts of a run, composed from a Hydra config."""

from __future__ import annotations

import logging
import shlex
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor, nn

from snn_lightning.calibration.images import inputs_of
from snn_lightning.callbacks.averaging import WeightAveraging
from snn_lightning.cli.processes import launched, processes
from snn_lightning.data.sources import CalibrationImages, DataSource
from snn_lightning.errors import SettingsError, SNNLightningError
from snn_lightning.files import replacing, writing
from snn_lightning.graph.parts import find_part, first_received
from snn_lightning.models.imported import code_fingerprint
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.training import FineTuning, TaskModule, load_or_train, load_weights
from snn_lightning.training.pretrain import fingerprint, pretrained_path

DECIMALS = 6


@dataclass
class Experiment:
    """The parts that a config describes.

    Args:
        config: the resolved Hydra config.
        folder: where results go.
        source: of the calibration images.
        uncalibrated: the SNN as it was before its calibration, once there is one.
    """

    config: dict[str, Any]
    folder: Path
    data: LightningDataModule
    module: TaskModule
    trainer: Trainer
    console: Console
    source: DataSource = field(default_factory=DataSource)
    seconds: dict[str, float] = field(default_factory=dict)
    uncalibrated: SpikingModel | None = None

    @classmethod
    def compose(cls, config: DictConfig, callbacks: Iterable[Callback] = ()) -> Experiment:
        """Build everything a run needs, and fail now if something is wrong.

        Args:
            config: the Hydra config.
            callbacks: of the Trainer, after those of the config.
        """
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        # Lightning's own business; scores are those of all processes together, each image once.
        warnings.filterwarnings("ignore", message=".*(LeafSpec|`DistributedSampler` with|sync_dist=True)")
        seed_everything(config.ann_seed, workers=True, verbose=False)
        plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
        fields = ("data_source", "path", "skip_unreadable")  # of a calibration; a training has none
        source = DataSource(**{name: plain[name] for name in fields if name in plain})
        data = instantiate(config.data)
        sizes = {key: getattr(data, key) for key in ("num_classes", "in_channels", "image_size")}
        sizes["class_names"] = getattr(data, "class_names", None)
        module = instantiate(config.module, model=plain["model"], **sizes, _convert_="all")
        callbacks = [*(instantiate(part) for part in (config.callbacks or {}).values()), *callbacks]
        loggers = [instantiate(part) for part in (config.logger or {}).values()]
        if not loggers:  # Lightning refuses one that has nowhere to log to.
            callbacks = [part for part in callbacks if not isinstance(part, LearningRateMonitor)]
        trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers or False)
        _check_processes(trainer)
        folder = Path(HydraConfig.get().runtime.output_dir)
        console = Console(quiet=not trainer.is_global_zero)
        return cls(plain, folder, data, module, trainer, console, source)

    def say(self, text: str) -> None:
        """Print a text as it is, on process 0."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[None]:
        """Announce a phase and take its time."""
        self.console.rule(title, align="left")
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def pretrain(self) -> Path | None:
        """Load the ANN that the config names, or one pretrained earlier, or train it now.

        Returns:
            The checkpoint it came from.
        """
        if self.config["ckpt"] is not None:
            load_weights(self.module, self.config["ckpt"])
            return Path(self.config["ckpt"])
        self._check_trained()
        with self.phase("pretrain", f"Pretraining {self.config['model']['name']} on {self.data_name}"):
            leader = self.trainer.is_global_zero
            group = processes()
            agree = group.agree if group else bool
            kept = load_or_train(
                self.config["cache_dir"], self.recipe(), self._fit, leader=leader, agree=agree
            )
            if not kept.trained:
                self.say(f"Using the ANN pretrained earlier: {kept.path}")
                load_weights(self.module, kept.path)
        return kept.path

    def _check_trained(self) -> None:
        """Refuse random weights that nothing trains; code of the user's own may have loaded some."""
        model, trainer = self.config["model"], self.config["trainer"]
        given = model.get("source") == "import" or model.get("weights") or model.get("pretrained")
        for name in ("max_epochs", "max_steps"):
            if trainer.get(name) == 0 and not given:
                raise SettingsError(
                    f"trainer.{name}=0 trains nothing, and model.name={model['name']} has no trained "
                    "weights: give some (ckpt=..., or model.weights=DEFAULT where there are any), or raise "
                    f"trainer.{name}"
                )

    @property
    def will_train(self) -> bool:
        """Whether `pretrain` has to train."""
        kept = pretrained_path(self.config["cache_dir"], fingerprint(self.recipe()))
        return self.config["ckpt"] is None and not kept.is_file()

    @cached_property
    def calibration_images(self) -> CalibrationImages:
        """The calibration images, known by number before those of the ANN are made."""
        self.data.prepare_data()
        self.data.setup("fit")
        return CalibrationImages(self.source, self.data)

    @cached_property
    def validation_loader(self) -> Any:
        """Batches of validation images; None where the data have none."""
        self.data.prepare_data()
        self.data.setup("fit")
        return self.data.val_dataloader()

    @property
    def data_name(self) -> str:
        """The data group's choice."""
        return str(HydraConfig.get().runtime.choices["data"])

    def recipe(self) -> dict[str, Any]:
        """Return everything that the pretrained weights depend on."""
        keys = ("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches")
        trainer = {key: self.config["trainer"].get(key) for key in keys}
        averaging = {
            k: v for k, v in (self.config["callbacks"] or {}).items() if "Averaging" in v["_target_"]
        }
        unused = {"root", "num_workers", "test_images"}
        calibration = {key for key in self.config["data"] if key.startswith("calibration_")}
        data = {k: v for k, v in self.config["data"].items() if k not in unused | calibration}
        parts = {"model": self.config["model"], "module": self.config["module"]}
        return {
            **parts,
            "seed": self.config["ann_seed"],
            "data": data,
            "trainer": trainer,
            "callbacks": averaging,
            **self._own,
        }

    @cached_property
    def _own(self) -> dict[str, str]:
        """Return fingerprints of the user's own things, whose content the settings don't tell."""
        own = {}
        if self.config["model"].get("source") == "import":
            own["code"] = code_fingerprint(self.config["model"]["target"], self.module.net)
        if hasattr(self.data, "files_fingerprint"):
            own["files"] = self.data.files_fingerprint()
        return own

    def test(self) -> dict[str, float]:
        """Return the scores on the test images of whatever network the module holds."""
        self.trainer.test(self.module, datamodule=self.data, verbose=False)
        return self._scores()

    def validate(self) -> dict[str, float]:
        """Return the same on the validation images; nothing is logged."""
        loggers, self.trainer.loggers = self.trainer.loggers, []
        try:
            self.trainer.test(self.module, dataloaders=self.validation_loader, verbose=False)
        finally:
            self.trainer.loggers = loggers
        return self._scores()

    def _scores(self) -> dict[str, float]:
        return {name: round(value, DECIMALS) for name, value in self.module.scores.items()}

    def over_time(self) -> dict[str, list[Any]]:
        """Return the scores of the last test after some time steps, and which; nothing for an ANN."""
        module = self.module
        values: dict[str, list[Any]] = {
            f"{name}_over_time": [round(value, DECIMALS) for value in values]
            for name, values in module.scores_over_time.items()
        }
        every = list(range(1, len(module.times) + 1))
        return values if module.times == every else {**values, "times": module.times}

    @property
    def snn(self) -> SpikingModel:
        """The spiking network, once there is one."""
        return cast(SpikingModel, self.module.spiking)

    @property
    def network(self) -> nn.Module:
        """The part of the network that spikes, or will; the whole by default."""
        path = self.config["network"]
        return self.module.net if path is None else find_part(self.module.net, path)

    def part(self, batch: Any) -> tuple[nn.Module, Tensor]:
        """Return the part of the network that spikes, or will, and what it gets of a batch, `[N, ...]`."""
        path = self.config["network"]
        if path is None:
            return self.module.net, inputs_of(batch)
        return first_received(self.module.net, batch, path, None)

    def test_batches(self) -> Iterator[Tensor]:
        """Yield what the SNN gets of each test batch, `[n, ...]`, on its device."""
        device = next(self.snn.parameters()).device
        for batch in self.data.test_dataloader():
            yield self.part(batch)[1].to(device)

    def test_images(self, count: int) -> Tensor:
        """Return the first of them, `[N, ...]`: `count`, or as many as come in a row in one size."""
        images: list[Tensor] = []
        for batch in self.test_batches():
            if images and batch.shape[1:] != images[0].shape[1:]:
                break
            images.append(batch)
            if sum(map(len, images)) >= count:
                break
        return torch.cat(images)[:count]

    def finetune(self, config: DictConfig, settings: FineTuning) -> None:
        """Train the module's spiking network on the labelled training images."""
        trainer = instantiate(
            config.trainer, callbacks=[], logger=self.trainer.loggers or False, max_epochs=settings.epochs
        )
        self.module.hparams["learning_rate"] = settings.learning_rate
        trainer.fit(self.module, datamodule=self.data)
        if trainer.interrupted:
            raise SNNLightningError("The training of the SNN was interrupted; run the same command again.")

    def save(self, path: Path) -> None:
        """Save the module as a Lightning checkpoint, whole or not at all; called on every process."""
        with writing(path), replacing(path, leader=self.trainer.is_global_zero) as part:
            self.trainer.save_checkpoint(part, weights_only=True)

    def _fit(self, path: Path) -> None:
        self.trainer.fit(self.module, datamodule=self.data)
        if self.trainer.interrupted:
            raise SNNLightningError(
                "Pretraining was interrupted; nothing was kept. Run the same command again."
            )
        # Their average is in the network now, and must not be swapped into it again.
        others = [c for c in self.trainer.callbacks if not isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
        self.trainer.callbacks = others  # type: ignore[attr-defined]
        self.trainer.save_checkpoint(path, weights_only=True)


def command() -> str:
    """Return the command of this job, without where its results go."""
    program = Path(sys.argv[0]).name
    python = ["python"] if program.endswith(".py") else []
    return shlex.join([*python, program, *HydraConfig.get().overrides.task])


def _check_processes(trainer: Trainer) -> None:
    """Check that the processes there are will be the Trainer's, and that a sweep has no need of others."""
    count, wanted = launched(), trainer.num_devices * trainer.num_nodes
    if count > 1 and wanted != count:
        raise SettingsError(
            f"{count} processes were started, and the Trainer is set to {wanted}: set trainer=ddp, "
            "trainer.devices to the processes of a machine and trainer.num_nodes to the number of machines."
        )
    if HydraConfig.get().mode == RunMode.MULTIRUN and count < wanted:
        raise SettingsError(
            f"A sweep (-m) can't start the {wanted} processes of a job: each would start the whole sweep "
            "again. Start the sweep itself with torchrun or srun, let SLURM start its jobs with "
            "hydra/launcher=slurm, or set trainer.devices=1 trainer.num_nodes=1."
        )
