"""The LightningModule that trains a classifier, and tests it as an ANN or as an SNN."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from snn_lightning.errors import SettingsError
from snn_lightning.graph.pointwise import overruns
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.training.plain import plain
from snn_lightning.training.task import TaskModule

Batch = tuple[Tensor, Tensor]


class ClassificationModule(TaskModule):
    """SGD with momentum and a cosine schedule, as in PC B.1 and B.2.

    The test of a spiking network takes its accuracy after each time step from one simulation.

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

    SCORES: ClassVar = {"accuracy": "acc"}
    TASK = "classification"

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
        model, class_names = plain(model, "model"), plain(class_names, "class_names")
        sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        super().__init__(model, sizes)
        self.save_hyperparameters()
        self.check_not_negative(
            "learning_rate", "momentum", "weight_decay", "label_smoothing", "warmup_epochs"
        )
        self._channels_last = channels_last and not any(map(overruns, self.net.modules()))
        if self._channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self._accuracy = torch.nn.ModuleDict({f"on_{part}": self.new_metric() for part in ("train", "val")})

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `[N, C, H, W]`: `[N, num_classes]`."""
        return self.net(self._arrange(x))

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

    def check_batch(self, batch: Any) -> None:
        """Refuse boxes and masks; see `TaskModule`."""
        if _other_targets(batch):
            _labelled(batch)

    def new_metric(self) -> Metric:
        """The share of images classified correctly."""
        return MulticlassAccuracy(self.hparams["num_classes"], average="micro")

    def feed(self, metric: Metric, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch: logits `[N, num_classes]`, labels `[N]`."""
        metric.update(outputs, targets)

    def read(self, metric: Metric) -> dict[str, float]:
        """The accuracy."""
        return {"accuracy": metric.compute().item()}

    def steps_scored(self, timesteps: int, whole: bool) -> list[int]:
        """All, where one simulation gives them."""
        return list(range(1, timesteps + 1)) if whole else super().steps_scored(timesteps, whole)

    def simulations(self, timesteps: int, whole: bool) -> float:
        """One, where it gives all time steps."""
        return 1.0 if whole else super().simulations(timesteps, whole)

    def predictions(self, inputs: Tensor) -> Iterator[Tensor]:
        """Yield the logits of a test batch; of an SNN after each of the time steps `times`."""
        inputs = self._arrange(inputs)
        if isinstance(self.net, SpikingModel):
            return iter(self.net.running_mean(inputs))
        return super().predictions(inputs)

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
        SettingsError: it has no labels, or not one an image.
    """
    if found := _other_targets(batch):
        raise SettingsError(
            f"Classification needs one label an image, and the loader gives {found}: set module and model to "
            "ones for those, or choose other data"
        )
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(p, Tensor) for p in batch):
        return batch[0], batch[1]
    raise SettingsError(
        f"Training needs labels: batches (images [N, C, H, W], labels [N]), and the train_dataloader gives "
        f"{type(batch).__name__}s without. Only calibration takes unlabelled images."
    )


def _other_targets(batch: object) -> str | None:
    """Return what a batch has that is for detection or segmentation."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        return None
    images, targets = batch
    if isinstance(targets, list) and targets and all(isinstance(target, Mapping) for target in targets):
        return "boxes (module=detection)"
    masks = isinstance(images, Tensor) and isinstance(targets, Tensor) and targets.ndim == 3
    return "masks (module=segmentation)" if masks else None
