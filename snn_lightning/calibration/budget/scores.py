"""How good a network is: on validation images, or by a metric of the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning import files
from snn_lightning.calibration.images import batches_of
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.files import tensor_bytes
from snn_lightning.graph.parts import Run, own_copy, run_model
from snn_lightning.graph.threads import alone

Metric = Callable[[nn.Module], Any]

IMPLAUSIBLE = 0.1
"""An SNN that is so much better than its ANN shows that the metric falls where it should rise."""


class ValidationAccuracy:
    """The fraction of classes that a network gets right: the labels, or without any the ANN's own classes.

    Args:
        ann: the trained network, in eval mode.
        loader: batches of images, or (images, labels); all are kept in memory.
        call: runs a network on a batch; see `run_model`.

    Attributes:
        fingerprint: tells these images and classes from others.

    Raises:
        SettingsError: there are no images, outputs are no class scores `[N, classes, ...]` of two or more
            classes or NaN, or labels don't fit them.

    Example:
        >>> ann = nn.Identity()
        >>> accuracy = ValidationAccuracy(ann, [(torch.eye(4), torch.tensor([0, 1, 2, 0]))])
        >>> accuracy(ann)
        0.75
    """

    def __init__(self, ann: nn.Module, loader: Iterable[Any], call: Run | None = None) -> None:
        self.call = call
        try:
            with alone():
                batches = list(batches_of(loader, seed=0))
        except CalibrationError as error:
            if isinstance(loader, Tensor):
                raise SettingsError(
                    "validation is a tensor: pass a loader of batches, or [tensor]"
                ) from error
            raise SettingsError(
                "There are no validation images: validation must be a loader of at least one batch"
            ) from error
        self.batches = [(batch, self._target(ann, batch)) for batch in batches]
        if not sum(len(target) for _, target in self.batches):
            raise SettingsError("There are no validation images: every batch is empty")
        tensors = (tensor_bytes(t) for batch, target in self.batches for t in (*_tensors(batch), target))
        self.fingerprint = files.fingerprint(chain(tensors))

    def __call__(self, network: nn.Module) -> float:
        """Return the fraction of a network."""
        right = total = 0
        for batch, target in self.batches:
            right += int((self._classes(network, batch) == target).sum())
            total += target.numel()
        return right / total

    def _target(self, ann: nn.Module, batch: Any) -> Tensor:
        scores = self._scores(ann, batch)
        if scores.isnan().any():
            raise SettingsError("The ANN gives NaN on the validation images: clean the data first")
        classes = scores.argmax(1).cpu()
        labelled = isinstance(batch, list | tuple) and len(batch) > 1 and isinstance(batch[0], Tensor)
        if not labelled or self.call is not None:
            return classes
        labels = batch[1]
        if not isinstance(labels, Tensor) or labels.shape != classes.shape or labels.is_floating_point():
            kind = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
            raise SettingsError(
                f"The labels of validation must be whole numbers {tuple(classes.shape)}, got {kind}: give "
                "batches of images alone to compare with the ANN's own classes, or a metric=..."
            )
        if ((labels < 0) | (labels >= scores.shape[1])).any():
            raise SettingsError(
                f"The labels of validation must be of the {scores.shape[1]} classes that the ANN has scores "
                f"for, 0 to {scores.shape[1] - 1}, got {int(labels.min())} to {int(labels.max())}: leave "
                "others out, or give a metric=..."
            )
        return labels.cpu()

    def _classes(self, network: nn.Module, batch: Any) -> Tensor:
        return self._scores(network, batch).argmax(1).cpu()

    @torch.no_grad()
    def _scores(self, network: nn.Module, batch: Any) -> Tensor:
        output = run_model(network, own_copy(batch), self.call)
        # Of a single class the largest score is always the same one, and no SNN would lose anything.
        if not isinstance(output, Tensor) or output.dim() < 2 or output.shape[1] == 1:
            kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise SettingsError(
                f"The network gives {kind} and no class scores [N, classes]: say how it is scored with "
                "metric=..., a function of the network that returns a fraction"
            )
        return output


def _tensors(batch: Any) -> Iterable[Tensor]:
    parts = batch if isinstance(batch, list | tuple) else [batch]
    return [part for part in parts if isinstance(part, Tensor)]


def scored(metric: Metric, network: nn.Module, mode: str, ann_score: float | None = None) -> float:
    """Return what a metric says of a network.

    Args:
        metric: it.
        network: on its device, in eval mode.
        mode: "max" for a fraction, of which more is better, "min" for any number of which less is better.
        ann_score: of the ANN, where the network is an SNN.

    Raises:
        SettingsError: that is no number, not finite, no fraction, or an SNN's is far above the ANN's.
    """
    of = "ANN" if ann_score is None else "SNN"
    with torch.no_grad():
        value = metric(network)
    try:
        if isinstance(value, bool | str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise SettingsError(f"metric must return a number, got {value!r} for the {of}") from None
    if not math.isfinite(number):
        raise SettingsError(f"metric gives {number} for the {of}: it must be a finite number")
    if mode == "max" and not 0 <= number <= 1:
        raise SettingsError(
            f"metric must be a fraction in [0, 1], got {number} for the {of}: divide percent by 100, or set "
            "mode='min' if less is better"
        )
    if mode == "max" and ann_score is not None and number > ann_score + IMPLAUSIBLE:
        raise SettingsError(
            f"metric gives {number:.4f} for the SNN and {ann_score:.4f} for the ANN, and an SNN is hardly so "
            "much better: set mode='min' if less is better, and check that it takes the network it is given"
        )
    return number
