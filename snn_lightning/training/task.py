"""What the LightningModules of `train.py` and `calibrate.py` have in common: a network and its scores."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sized
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data.distributed import DistributedSampler
from torchmetrics import Metric

from snn_lightning.errors import SettingsError
from snn_lightning.models import create_model
from snn_lightning.spiking.checkpoint import SpikingCheckpoint, find_spiking_model
from snn_lightning.spiking.early import stopped_after
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.config import check_surrogate

OTHER_TASKS = ("detection", "segmentation")
"""Tasks whose networks are a source of `create_model` of that name."""


def cosine_factor(step: int, total: int, warmup: int = 0) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine down to zero.

    Args:
        step: optimizer steps done.
        total: steps of the whole training.
        warmup: steps of the warm-up, the last of which has factor one.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def doubling(timesteps: int) -> list[int]:
    """Return 1, 2, 4, ... up to T, and T.

    Example:
        >>> doubling(12)
        [1, 2, 4, 8, 12]
    """
    return [2**i for i in range(timesteps.bit_length()) if 2**i < timesteps] + [timesteps]


class TaskModule(SpikingCheckpoint, LightningModule):
    """A network, trained by SGD with momentum, and tested as an ANN or with an SNN in it.

    A subclass names its scores, and says how a metric of them is made, fed and read. Where the network is a
    spiking one, `fit` trains its weights with surrogate gradients; thresholds and potentials stay.

    Args:
        model: keywords of `create_model`: `name`, maybe `source`, and the model's settings.
        sizes: keywords of `create_model` that the data decide: `num_classes`, `in_channels`, `image_size`.

    Attributes:
        net: the network.
        scores: what the last test has measured, by the names in `SCORES`, as fractions.
        scores_over_time: of a network with an SNN in it, each of them after the time steps `times`.
        times: time steps after which an SNN is scored.

    Example:
        >>> from snn_lightning.training import ClassificationModule
        >>> issubclass(ClassificationModule, TaskModule), ClassificationModule.SCORES
        (True, {'accuracy': 'acc'})
    """

    SCORES: ClassVar[Mapping[str, str]]
    """Names of what a test measures, the most important one first, and how logs call them: `test/<name>`."""

    TASK: ClassVar[str | None] = None
    """What its networks are for, "classification" or a source of `create_model`; None takes any network."""

    net: nn.Module

    def __init__(self, model: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.scores: dict[str, float] = {}
        self.scores_over_time: dict[str, list[float]] = {}
        self.times: list[int] = []
        self._metrics: list[Metric] = []
        self._left: int | None = None
        self._repeated: list[Any] = []
        if "name" not in model:
            raise SettingsError(
                "model.name is missing: say which model to build, for example model.name=vgg16_bn"
            )
        source = model.get("source")
        task = source if source in OTHER_TASKS else "classification"
        if self.TASK not in (None, task):
            raise SettingsError(
                f"model.name={model['name']} is for {task} and the module for {self.TASK}: set module={task},"
                " or choose another model"
            )
        for field in sizes.keys() & model.keys():
            raise SettingsError(f"model.{field} comes from the data: set data.{field}, or leave it out")
        self.net = create_model(**{**model, **sizes})

    def check_not_negative(self, *fields: str) -> None:
        """Raise a SettingsError if one of these hyperparameters is negative."""
        for field in fields:
            if not self.hparams[field] >= 0:
                raise SettingsError(f"module.{field} must not be negative, got {self.hparams[field]!r}")

    def setup(self, stage: str) -> None:
        """Make a spiking network's weights trainable before the optimizer and the strategy look at them.

        Raises:
            SettingsError: its neurons are of a kind that gradients don't pass.
        """
        if (snn := self.spiking) is not None:
            if stage == "fit":
                check_surrogate(snn.neuron, "training")
            snn.requires_grad_(stage == "fit")

    def on_fit_end(self) -> None:
        """Let a spiking network be constant again."""
        if (snn := self.spiking) is not None:
            snn.requires_grad_(False)

    @property
    def spiking(self) -> SpikingModel | None:
        """The network, or the part of it, that spikes."""
        found = find_spiking_model(self.net)
        return None if found is None else found[1]

    @abstractmethod
    def new_metric(self) -> Metric:
        """Return what takes up the predictions of a test."""

    def check_batch(self, batch: Any) -> None:
        """Raise a SettingsError if a batch of images and targets is one for another task."""

    @abstractmethod
    def feed(self, metric: Metric, outputs: Any, targets: Any) -> None:
        """Give a metric what the network made of a batch, and what it should be."""

    def fill_up(self, metric: Metric, targets: list[Any]) -> None:
        """Feed what counts as nothing in place of some images, where a metric needs as many in every process.

        Args:
            metric: of a test.
            targets: of the images.
        """

    @abstractmethod
    def read(self, metric: Metric) -> dict[str, float]:
        """Return a metric's scores, as fractions; all processes call it."""

    def steps_scored(self, timesteps: int, whole: bool) -> list[int]:
        """Return the time steps after which an SNN is scored; each costs a simulation of so many steps.

        Args:
            timesteps: T.
            whole: whether the network spikes whole, and not a part of it.
        """
        return doubling(timesteps)

    def simulations(self, timesteps: int, whole: bool) -> float:
        """Return how many simulations of T time steps the test of an image takes; see `steps_scored`."""
        return sum(self.steps_scored(timesteps, whole)) / timesteps

    def predictions(self, inputs: Any) -> Iterator[Any]:
        """Yield what the network makes of a test batch; of an SNN after each of the time steps `times`."""
        if self.spiking is None:
            yield self.net(inputs)
        for t in self.times:
            with stopped_after(self.net, t):
                yield self.net(inputs)

    def on_test_epoch_start(self) -> None:
        """Forget the scores of an earlier test."""
        self.scores, self.scores_over_time = {}, {}
        snn = self.spiking
        self._repeated, self._left = [], _share(self.trainer.test_dataloaders)
        self.times = [] if snn is None else self.steps_scored(snn.timesteps, whole=snn is self.net)
        self._metrics = [self.new_metric().to(self.device) for _ in range(max(1, len(self.times)))]

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Take up the predictions for a batch, without images that another process has too."""
        inputs, targets = batch
        if self._left is not None:
            self._repeated.extend(targets[self._left :])
            inputs, targets = inputs[: self._left], targets[: self._left]
            self._left -= len(targets)
            if not len(targets):
                return
        for metric, outputs in zip(self._metrics, self.predictions(inputs), strict=True):
            self.feed(metric, outputs, targets)

    def on_test_epoch_end(self) -> None:
        """Compute the scores, and log them."""
        if self._repeated:
            for metric in self._metrics:
                self.fill_up(metric, self._repeated)
        read = [self.read(metric) for metric in self._metrics]
        self.scores, self._metrics = read[-1], []
        if self.times:
            self.scores_over_time = {name: [scores[name] for scores in read] for name in self.SCORES}
        self.log_dict({f"test/{self.SCORES[name]}": value for name, value in self.scores.items()})

    def learning_rate_factor(self, step: int, total: int, steps_per_epoch: float) -> float:
        """Return the factor on the learning rate after some optimizer steps: the cosine schedule.

        Args:
            step: steps done.
            total: steps of the whole training.
            steps_per_epoch: of them in an epoch.
        """
        warmup = round(self.hparams.get("warmup_epochs", 0) * steps_per_epoch)
        return cosine_factor(step, total, min(total, warmup))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """SGD with momentum; its learning rate follows `learning_rate_factor` from batch to batch."""
        settings = self.hparams
        optimizer = torch.optim.SGD(
            (parameter for parameter in self.net.parameters() if parameter.requires_grad),
            lr=settings["learning_rate"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
            nesterov=settings.get("nesterov", False),
        )
        total, per_epoch = self._schedule_steps()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.learning_rate_factor(step, total, per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _schedule_steps(self) -> tuple[int, float]:
        total = self.trainer.estimated_stepping_batches
        if not math.isfinite(total):
            raise SettingsError(
                "the learning rate's schedule must know its end: set trainer.max_epochs or trainer.max_steps"
            )
        epochs = self.trainer.max_epochs
        per_epoch = total / epochs if epochs and epochs > 0 else float(self.trainer.num_training_batches)
        return int(total), per_epoch


def _share(loader: Any) -> int | None:
    """Return how many images of a loader are this process' own; None for all.

    A distributed sampler repeats the first images for the processes that have one less than the others.
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler) or sampler.shuffle:
        return None
    return len(range(sampler.rank, len(cast(Sized, sampler.dataset)), sampler.num_replicas))
