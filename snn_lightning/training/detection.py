"""The LightningModule that trains an object detector, and tests it as an ANN or with a spiking part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision

from snn_lightning.errors import SettingsError, SNNLightningError
from snn_lightning.settings import check_choice, check_positive
from snn_lightning.training.plain import plain
from snn_lightning.training.task import TaskModule

Target = dict[str, Any]
Batch = tuple[list[Tensor], list[Target]]


def steps_factor(step: int, milestones: Sequence[int], factor: float, warmup: int = 0) -> float:
    """Factor on the learning rate: linear warm-up, then smaller by `factor` from each milestone on.

    Args:
        step: optimizer steps done.
        milestones: steps after which it falls.
        factor: how far it falls.
        warmup: steps of the warm-up, the last of which has factor one.

    Example:
        >>> [steps_factor(step, [4, 5], 0.5, warmup=2) for step in range(6)]
        [0.5, 1.0, 1.0, 1.0, 0.5, 0.25]
    """
    if step < warmup:
        return (step + 1) / warmup
    return factor ** sum(step >= milestone for milestone in milestones)


class LitDetector(TaskModule):
    """SGD with momentum, a warm-up and a learning rate that falls in steps, as in PC B.3.

    Batches are `(images, targets)`: a list of images `[3, H, W]` in 0...1, of any sizes, and a list of dicts
    with `boxes [n, 4]` (x1, y1, x2, y2 in pixels) and `labels [n]` (from 1), and maybe `image_id`, and `area
    [n]` and `iscrowd [n]`, which the test heeds. Scores are COCO's mean average precision: `map50` at an
    intersection over union of 0.5, `map` as the mean over 0.5, 0.55, ... 0.95.

    Args:
        model: keywords of `create_model`: `source: detection`, `name`, and the model's settings.
        num_classes: labels of the data, the background (0) among them.
        in_channels: C of the images.
        image_size: pixels of the images' shorter side, where the model's settings don't say it.
        class_names: what the labels mean, for whoever reads a checkpoint.
        learning_rate: at the top of the schedule. The paper's 0.000625 is for each of the images a step.
        momentum: of SGD.
        weight_decay: on all parameters.
        warmup_epochs: epochs of linear warm-up.
        schedule: "steps" falls at the milestones, "cosine" to zero.
        milestones: epochs after which the learning rate falls.
        factor: how far it falls.

    Raises:
        SettingsError: a setting is out of range, or pycocotools is missing.

    Example:
        >>> model = {"source": "detection", "name": "retinanet", "fpn_channels": 16}
        >>> module = LitDetector(model, num_classes=6, in_channels=3, image_size=32).eval()
        >>> sorted(module([torch.rand(3, 32, 48)])[0])
        ['boxes', 'labels', 'scores']
    """

    SCORES: ClassVar = {"map50": "map50", "map": "map"}
    TASK = "detection"

    def __init__(
        self,
        model: Mapping[str, Any],
        num_classes: int,
        in_channels: int,
        image_size: int,
        *,
        class_names: Sequence[str] | None = None,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        warmup_epochs: float = 1.0,
        schedule: str = "steps",
        milestones: Sequence[float] = (8, 11),
        factor: float = 0.1,
    ) -> None:
        model, class_names = plain(model, "model"), plain(class_names, "class_names")
        milestones = plain(milestones, "module.milestones")
        super().__init__(
            model, {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        )
        self.save_hyperparameters()
        self.check_not_negative("learning_rate", "momentum", "weight_decay", "warmup_epochs")
        check_choice("module.schedule", schedule, ("steps", "cosine"))
        check_positive("module.factor", factor)
        for epoch in milestones:
            check_positive("module.milestones", epoch)
        self._validated = self.new_metric()

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        """Detect objects: `boxes`, `labels` and `scores` for each image; in training mode, the losses."""
        return self.net(images, targets)

    def on_train_start(self) -> None:
        """Let a network that was converted, and evaluates since, compute its losses again."""
        if not self.net.training:
            self.net.train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of a batch's losses; logs it as `train/loss`, and each of them."""
        images, targets = _annotated(batch)
        self._check_targets(targets)
        losses = self(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            found = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
            raise SNNLightningError(
                f"The training diverges: at step {self.global_step} the losses are {found}. Lower "
                f"module.learning_rate ({self.hparams['learning_rate']:g}), or raise module.warmup_epochs."
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Take up the detections in a batch."""
        images, targets = _annotated(batch)
        self.feed(self._validated, self(images), targets)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/map50` and `val/map`, unless no validation image has a box."""
        scores = _computed(self._validated)
        self._validated.reset()
        if scores is not None:
            self.log_dict(
                {f"val/{self.SCORES[name]}": value for name, value in scores.items()}, prog_bar=True
            )

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Take up the detections in a batch."""
        super().test_step(_annotated(batch), batch_idx)

    def new_metric(self) -> Metric:
        """COCO's mean average precision of boxes.

        Raises:
            SettingsError: pycocotools is missing.
        """
        try:
            metric = MeanAveragePrecision()
        except ModuleNotFoundError as error:
            raise SettingsError(
                "The mean average precision needs pycocotools: pip install 'snn_lightning[detection]'"
            ) from error
        metric.warn_on_many_detections = False
        return metric

    def feed(self, metric: Metric, outputs: list[dict[str, Tensor]], targets: list[Target]) -> None:
        """Take up the detections in the images of a batch."""
        # An autocast may have left its mark on some, and processes gather tensors of one type.
        found = [{key: v.float() if v.is_floating_point() else v for key, v in o.items()} for o in outputs]
        metric.update(found, targets)

    def fill_up(self, metric: Metric, targets: list[Target]) -> None:
        """Take up images without boxes; processes gather image by image, tensors of equal types."""
        none = [
            {k: v[:0] for k, v in target.items() if isinstance(v, Tensor) and v.dim()} for target in targets
        ]
        self.feed(metric, [{**empty, "scores": empty["boxes"][:, 0]} for empty in none], none)

    def read(self, metric: Metric) -> dict[str, float]:
        """The mean average precision, by COCO's rules.

        Raises:
            SettingsError: no image has a box.
        """
        scores = _computed(metric)
        if scores is None:
            raise SettingsError(
                "None of the test images has a box (those around crowds don't count), so there is no mean "
                "average precision: give annotated images"
            )
        return scores

    def learning_rate_factor(self, step: int, total: int, steps_per_epoch: float) -> float:
        """Return the factor on the learning rate after some optimizer steps; see `TaskModule`."""
        settings = self.hparams
        if settings["schedule"] == "cosine":
            return super().learning_rate_factor(step, total, steps_per_epoch)
        milestones = [round(epoch * steps_per_epoch) for epoch in settings["milestones"]]
        warmup = round(settings["warmup_epochs"] * steps_per_epoch)
        return steps_factor(step, milestones, settings["factor"], warmup)

    def _check_targets(self, targets: list[Target]) -> None:
        """Check that labels are those of the network, and that boxes have an area."""
        count = self.hparams["num_classes"]
        boxes, labels = (torch.cat([target[key] for target in targets]) for key in ("boxes", "labels"))
        wrong = ((labels < 1) | (labels >= count)).any()
        empty = (boxes[:, 2:] <= boxes[:, :2]).any()
        if not (wrong | empty):
            return
        for index, target in enumerate(targets):
            where = f"Image {target.get('image_id', index)}"
            for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
                if not 1 <= label < count:
                    raise SettingsError(
                        f"{where} has a box of label {label}, and the labels of num_classes={count} are 1 to "
                        f"{count - 1} (0 is the background): correct the data's labels or num_classes"
                    )
                if box[2] <= box[0] or box[3] <= box[1]:
                    raise SettingsError(
                        f"{where} has the box {box}, which has no area (x1, y1, x2, y2): leave such boxes out"
                    )


def _computed(metric: Metric) -> dict[str, float] | None:
    """Return the scores; none if there was no box to find, for which torchmetrics says -1."""
    found = metric.compute()
    scores = {name: found["map_50" if name == "map50" else name].item() for name in LitDetector.SCORES}
    return None if min(scores.values()) < 0 else scores


def _annotated(batch: object) -> Batch:
    """Return the images and targets of a batch.

    Raises:
        SettingsError: it has no targets.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        images, targets = batch
        lists = isinstance(images, tuple | list) and isinstance(targets, tuple | list)
        if lists and all(
            isinstance(target, Mapping) and {"boxes", "labels"} <= set(target) for target in targets
        ):
            return list(images), list(targets)
    raise SettingsError(
        "A detector needs boxes: batches (list of images [3, H, W], list of dicts with boxes [n, 4] and "
        f"labels [n]), and the loader gives {type(batch).__name__}s without: set data.target=boxes, with "
        "data=shapes or data=coco. Only calibration takes images alone."
    )
