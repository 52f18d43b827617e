"""The LightningModule that trains a classifier, and tests it as an ANN or as an SNN."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from snn_lightning.errors import SettingsError
from snn_lightning.graph.pointwise import overruns
from snn_lightning.models import create_model
from snn_lightning.spiking.checkpoint import SpikingCheckpoint
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.config import check_surrogate
from snn_lightning.training.metrics import AccuracyOverTime
from snn_lightning.training.plain import plain

Batch = tuple[Tensor, Tensor]


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


class ClassificationModule(SpikingCheckpoint, LightningModule):
    """SGD with momentum and a cosine schedule, as in PC B.1 and B.2.

    The network is `self.net`. Where it is a spiking one (it has a method `running_mean`), the test also gives
    `accuracy_over_time`, the accuracy after each time step of the same simulation, and `fit` trains its
    weights with surrogate gradients, thresholds and potentials staying as they are.

    Args:
        model: keywords of `create_model`: `name`, maybe `source`, and the model's settings.
        num_classes: labels of the data.
        in_channels: C of the images.
        image_size: H and W of the images.
        class_names: what the labels mean, for whoever reads a checkpoint.
        learning_rate: at the top of the schedule.
        momentum: of SGD.
        weight_decay: on all parameters.
        label_smoothing: share of the target that is spread over all classes.
        nesterov: whether the momentum is Nesterov's.
        warmup_epochs: epochs of linear warm-up.
        channels_last: keep images and filters with their channels innermost, mostly the faster way; left out
            for networks whose training that could break, see `graph.pointwise.overruns`.

    Example:
        >>> model = {"name": "resnet20", "width": 4}
        >>> module = ClassificationModule(model, num_classes=10, in_channels=1, image_size=8)
        >>> module(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    accuracy_over_time: list[float] | None
    """Accuracy of the last test after t = 1…T time steps (fractions); None for an ANN."""

    def __init__(
        self,
        model: Mapping[str, Any],
        num_classes: int,
        in_channels: int,
        image_size: int,
        *,
        class_names: Sequence[str] | None = None,
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        label_smoothing: float = 0.0,
        nesterov: bool = False,
        warmup_epochs: float = 0.0,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        model, class_names = plain(model, "model"), plain(class_names, "class_names")
        self.save_hyperparameters()
        for field in ("learning_rate", "momentum", "weight_decay", "label_smoothing", "warmup_epochs"):
            if not self.hparams[field] >= 0:
                raise SettingsError(f"module.{field} must not be negative, got {self.hparams[field]!r}")
        if "name" not in model:
            raise SettingsError(
                "model.name is missing: say which model to build, for example model.name=vgg16_bn"
            )
        sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        for field in sizes.keys() & model.keys():
            raise SettingsError(f"model.{field} comes from the data: set data.{field}, or leave it out")
        self.net = create_model(**{**model, **sizes})
        self._channels_last = channels_last and not any(map(overruns, self.net.modules()))
        if self._channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self._accuracy = torch.nn.ModuleDict(
            {
                f"on_{part}": MulticlassAccuracy(num_classes, average="micro")
                for part in ("train", "val", "test")
            }
        )
        self._over_time: AccuracyOverTime | None = None
        self.accuracy_over_time = None

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `[N, C, H, W]`: `[N, num_classes]`."""
        return self.net(self._arrange(x))

    def setup(self, stage: str) -> None:
        """Make a spiking network's weights trainable before the optimizer and the strategy look at them.

        Raises:
            SettingsError: its neurons are of a kind that gradients don't pass.
        """
        if isinstance(self.net, SpikingModel):
            if stage == "fit":
                check_surrogate(self.net.neuron, "training")
            self.net.requires_grad_(stage == "fit")

    def on_fit_end(self) -> None:
        """Let a spiking network be constant again."""
        if isinstance(self.net, SpikingModel):
            self.net.requires_grad_(False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch; logs `train/loss` and `train/acc`."""
        x, y = _labelled(batch)
        logits = self(x)
        loss = cross_entropy(logits, y, label_smoothing=self.hparams["label_smoothing"])
        self.log("train/loss", loss, prog_bar=True)
        self._log_accuracy("train", logits, y)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs `val/acc`."""
        x, y = batch
        self._log_accuracy("val", self(x), y)

    def on_test_epoch_start(self) -> None:
        """Forget the accuracy over time of an earlier test."""
        self._over_time = None
        self.accuracy_over_time = None

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs `test/acc`; a spiking network is simulated once for all time steps."""
        x, y = batch
        if not hasattr(self.net, "running_mean"):
            self._log_accuracy("test", self(x), y)
            return
        readout = self.net.running_mean(self._arrange(x))  # type: ignore[operator]
        if self._over_time is None:
            self._over_time = AccuracyOverTime(len(readout)).to(readout.device)
        self._over_time.update(readout, y)
        self._log_accuracy("test", readout[-1], y)

    def on_test_epoch_end(self) -> None:
        """Gather the accuracy over time from all processes."""
        if self._over_time is not None:
            self.accuracy_over_time = self._over_time.compute().tolist()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """SGD, and the cosine schedule stepped after each batch."""
        settings = self.hparams
        optimizer = torch.optim.SGD(
            self.net.parameters(),
            lr=settings["learning_rate"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
            nesterov=settings["nesterov"],
        )
        total, warmup = self._schedule_steps()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine_factor(step, total, warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _schedule_steps(self) -> tuple[int, int]:
        total = self.trainer.estimated_stepping_batches
        if not math.isfinite(total):
            raise SettingsError(
                "the cosine schedule must know its end: set trainer.max_epochs or trainer.max_steps"
            )
        epochs = self.trainer.max_epochs
        per_epoch = total / epochs if epochs and epochs > 0 else float(self.trainer.num_training_batches)
        return int(total), min(int(total), round(self.hparams["warmup_epochs"] * per_epoch))

    def _arrange(self, x: Tensor) -> Tensor:
        if self._channels_last and x.ndim == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def _log_accuracy(self, part: str, logits: Tensor, y: Tensor) -> None:
        metric = self._accuracy[f"on_{part}"]
        metric(logits, y)
        self.log(f"{part}/acc", metric, on_step=False, on_epoch=True, prog_bar=part != "test")  # type: ignore[arg-type]


def _labelled(batch: object) -> Batch:
    """Return the images and labels of a batch.

    Raises:
        SettingsError: it has no labels.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(p, Tensor) for p in batch):
        return batch[0], batch[1]
    raise SettingsError(
        f"Training needs labels: batches (images [N, C, H, W], labels [N]), and the train_dataloader gives "
        f"{type(batch).__name__}s without. Only calibration takes unlabelled images."
    )
