"""torchvision's trained weights of detectors, for labels that are counted without gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.error import URLError

from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from snn_lightning.errors import SettingsError

_LOGITS = {"head.classification_head.cls_logits": 1}
PER_CLASS = {
    "retinanet": _LOGITS,
    "fcos": _LOGITS,
    "faster_rcnn": {"roi_heads.box_predictor.cls_score": 1, "roi_heads.box_predictor.bbox_pred": 4},
}
"""Layers with outputs for each class, and how many."""

ABSENT = "N/A"
"""What torchvision calls the ids that COCO doesn't use."""


@contextmanager
def fetching(field: str, name: str | None) -> Iterator[None]:
    """Say in messages which weights can't be had.

    Raises:
        SettingsError: there are none of that name, or they can't be downloaded.
    """
    try:
        yield
    except (KeyError, ValueError) as error:
        raise SettingsError(f"model.{field}={name}: {error}") from error
    except URLError as error:
        raise SettingsError(
            f"model.{field}={name} can't be downloaded ({error.reason}): put the file where torch.hub looks "
            f"for it ($TORCH_HOME/hub/checkpoints), or set model.{field}=null"
        ) from error


def load_trained(net: nn.Module, name: str, num_classes: int, weights: str) -> None:
    """Load torchvision's weights of a detector with a ResNet-50.

    torchvision's labels are COCO's category ids, which have gaps. Here they are counted without.

    Args:
        net: the detector, built as torchvision builds it.
        name: what kind it is.
        num_classes: of the detector.
        weights: "DEFAULT" or the name of the weights.

    Raises:
        SettingsError: there are no such weights, or they are of other classes or another network.
    """
    with fetching("weights", weights):
        found = get_model_weights(f"{name.replace('_', '')}_resnet50_fpn")[weights]
        categories = found.meta["categories"]
        kept = [label for label, category in enumerate(categories) if category != ABSENT]
        if num_classes != len(kept):
            raise SettingsError(
                f"model.weights={weights} are for {len(kept) - 1} categories and the background, and the "
                f"data have num_classes={num_classes}: set model.weights=null, maybe weights_backbone"
            )
        state = found.get_state_dict(progress=False, check_hash=True)
    for layer, count in PER_CLASS[name].items():
        for part in ("weight", "bias"):
            state[f"{layer}.{part}"] = _rows(state[f"{layer}.{part}"], len(categories), count, kept)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise SettingsError(
            f"model.weights={weights} are of another network: they need model.backbone=resnet50, "
            "model.norm=frozen, model.fpn_channels=256, model.head_norm=null, and model.min_size=256 or more"
        ) from error
    if name != "fcos":  # whose weights were trained with an epsilon, unlike the others'
        for module in net.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 0.0


def _rows(weight: Tensor, classes: int, count: int, kept: Sequence[int]) -> Tensor:
    """Return the outputs of some classes, of a layer with some outputs for each place and class."""
    return weight.unflatten(0, (-1, classes, count))[:, kept].flatten(0, 2)
