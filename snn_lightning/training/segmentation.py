"""The LightningModule that trains a network for semantic segmentation, and tests it as ANN or SNN."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from snn_lightning.data.coco_images import IGNORED
from snn_lightning.errors import SettingsError, SNNLightningError, few
from snn_lightning.training.plain import plain
from snn_lightning.training.task import TaskModule


def segmentation_scores(confusion: Tensor) -> dict[str, float]:
    """Return the mean intersection over union, and the share of pixels classified correctly.

    The intersection over union of class k is `c_kk / (sum_j c_kj + sum_j c_jk - c_kk)`. The mean is over the
    classes that occur, in the targets or in the predictions. The pixels of all images are one set.

    Args:
        confusion: `c [K, K]`, pixels by target (row) and prediction (column).

    Returns:
        `miou` and `pixel_accuracy`, in 0...1; NaN where there is no pixel.

    Example:
        >>> import torch
        >>> segmentation_scores(torch.tensor([[6, 2, 0], [0, 0, 0], [0, 2, 0]]))
        {'miou': 0.25, 'pixel_accuracy': 0.6}
    """
    confusion = confusion.double()
    correct = confusion.diag()
    union = confusion.sum(0) + confusion.sum(1) - correct
    occurs = union > 0
    return {
        "miou": (correct[occurs] / union[occurs]).mean().item(),
        "pixel_accuracy": (correct.sum() / confusion.sum()).item(),
    }


class LitSegmenter(TaskModule):
    """Cross entropy of each pixel, by SGD with momentum and a cosine schedule; the label 255 doesn't count.

    Batches are `(images [N, 3, H, W], labels [N, H, W])`. The network gives `[N, num_classes, H, W]`, or a
    dict with that as `"out"`, as torchvision's do.

    Args:
        model: keywords of `create_model`: `name`, maybe `source`, and the model's settings.
        num_classes: labels of the data, the background's among them.
        in_channels: C of the images.
        image_size: H and W of the images.
        class_names: what the labels mean, for whoever reads a checkpoint.
        learning_rate: at the top of the schedule.
        momentum: of SGD.
        weight_decay: on all parameters.
        nesterov: whether the momentum is Nesterov's.
        warmup_epochs: epochs of linear warm-up.

    Example:
        >>> import torch
        >>> model = {"name": "fcn", "source": "segmentation", "backbone": "resnet18"}
        >>> module = LitSegmenter(model, num_classes=6, in_channels=3, image_size=32)
        >>> module(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 6, 32, 32])
    """

    SCORES: ClassVar = {"miou": "miou", "pixel_accuracy": "pixel_acc"}
    TASK = "segmentation"

    def __init__(
        self,
        model: Mapping[str, Any],
        num_classes: int,
        in_channels: int,
        image_size: int,
        *,
        class_names: Sequence[str] | None = None,
        learning_rate: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        nesterov: bool = False,
        warmup_epochs: float = 0.0,
    ) -> None:
        model, class_names = plain(model, "model"), plain(class_names, "class_names")
        sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        super().__init__(model, sizes)
        self.save_hyperparameters()
        self.check_not_negative("learning_rate", "momentum", "weight_decay", "warmup_epochs")
        self._confusion = self.new_metric()

    def forward(self, x: Tensor) -> Tensor:
        """Classify the pixels of images `[N, 3, H, W]`: `[N, num_classes, H, W]`."""
        return _logits(self.net(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch; logs it as `train/loss`.

        Raises:
            SettingsError: the batch has no masks, or not those of its images.
            SNNLightningError: the loss isn't finite.
        """
        x, y = self._labelled(batch)
        total = cross_entropy(self(x), y, ignore_index=IGNORED, reduction="sum")
        loss = total / (y != IGNORED).sum().clamp(min=1)
        if not loss.isfinite():
            raise SNNLightningError(
                f"The loss is {loss.item()} after {self.global_step} steps: lower module.learning_rate, set "
                "module.warmup_epochs=1, or look for images that aren't finite."
            )
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Take up the predictions for a batch."""
        x, y = self._labelled(batch)
        self.feed(self._confusion, self(x), y)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/miou`."""
        self.log("val/miou", self.read(self._confusion)["miou"], prog_bar=True)
        self._confusion.reset()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Take up the predictions for a batch."""
        super().test_step(self._labelled(batch), batch_idx)

    def check_batch(self, batch: Any) -> None:
        """Refuse boxes; see `TaskModule`."""
        if isinstance(batch, tuple | list) and batch and not isinstance(batch[0], Tensor):
            self._labelled(batch)

    def new_metric(self) -> Metric:
        """The pixels of each label and prediction."""
        return MulticlassConfusionMatrix(
            self.hparams["num_classes"], ignore_index=IGNORED, validate_args=False
        )

    def feed(self, metric: Metric, outputs: Any, targets: Tensor) -> None:
        """Count a batch: what the network gives, see above, and labels `[N, H, W]`."""
        metric.update(_logits(outputs).argmax(1), targets)

    def read(self, metric: Metric) -> dict[str, float]:
        """The mean intersection over union, and the share of pixels classified correctly."""
        return segmentation_scores(cast(Tensor, metric.compute()))

    def _labelled(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the images and labels of a batch.

        Raises:
            SettingsError: it has no masks, they are of another size than the images, or of other labels.
        """
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and _are_images_and_masks(*batch)):
            raise SettingsError(
                "Segmentation needs batches (images [N, 3, H, W], labels of their pixels [N, H, W]), and the "
                f"loader gives {_described(batch)}: set data.target=masks, with data=shapes or data=coco"
            )
        x, y = batch[0], batch[1].long()
        if (x.shape[0], *x.shape[2:]) != y.shape:
            raise SettingsError(
                f"The masks {list(y.shape)} are of another size than the images {list(x.shape)}: every pixel "
                "of an image needs its label"
            )
        classes = self.hparams["num_classes"]
        wrong = y[((y < 0) | (y >= classes)) & (y != IGNORED)]
        if len(wrong):
            labels = few([str(label) for label in wrong.unique().tolist()])
            raise SettingsError(
                f"The masks have the labels {labels}, and the data's num_classes={classes} allows 0 to "
                f"{classes - 1}, the background among them, and {IGNORED} for pixels that don't count"
            )
        return x, y


def _logits(outputs: Any) -> Tensor:
    return outputs["out"] if isinstance(outputs, Mapping) else outputs


def _are_images_and_masks(x: Any, y: Any) -> bool:
    integer = isinstance(y, Tensor) and not y.is_floating_point() and y.ndim == 3
    return integer and isinstance(x, Tensor) and x.ndim == 4


def _described(batch: Any) -> str:
    parts = batch if isinstance(batch, tuple | list) else [batch]
    return ", ".join(
        f"a tensor {list(p.shape)} of {p.dtype}" if isinstance(p, Tensor) else f"a {type(p).__name__}"
        for p in parts
    )
