"""Read trained weights from whatever file they are in."""

from collections.abc import Mapping
from os import PathLike

from torch import Tensor, nn

from snn_lightning.errors import CheckpointError, few
from snn_lightning.files import read_checkpoint

Weights = dict[str, Tensor]


def load_weights(target: nn.Module, path: str | PathLike[str]) -> None:
    """Load a Lightning checkpoint, a state_dict or `{"state_dict": …}` into a network or LightningModule.

    Prefixes all weights have in common (`net.`, `model.`, `module.`, `_orig_mod.`…) may differ between the
    file and `target`, and the file may hold another network beside this one under another prefix.

    Args:
        target: what takes the weights; all of its parameters and buffers must be in the file.
        path: the file.

    Raises:
        CheckpointError: the file is missing or damaged, or of another network; `target` is then unchanged.

    Example:
        >>> import torch
        >>> weights = {"net.weight": torch.ones(1, 2), "net.bias": torch.zeros(1)}
        >>> torch.save({"state_dict": weights}, "ann.ckpt")
        >>> net = nn.Linear(2, 1)
        >>> load_weights(net, "ann.ckpt")
        >>> net(torch.tensor([[2.0, 3.0]])).item()
        5.0
    """
    content = read_checkpoint(path)
    inner = content.get("state_dict", content)
    given = (
        {key: value for key, value in inner.items() if isinstance(value, Tensor)} if _is_map(inner) else {}
    )
    if not given:
        raise CheckpointError(f"{path} holds no weights: give a Lightning checkpoint or a state_dict")
    own = dict(target.state_dict())
    stem = _common_prefix(own)
    wanted = {key.removeprefix(stem): value for key, value in own.items()}
    found = max(_candidates(given), key=lambda weights: _score(weights, wanted))
    if any(key not in found or found[key].shape != value.shape for key, value in wanted.items()):
        raise CheckpointError(_difference(path, found, wanted))
    extra = [key for key in found if key not in wanted]
    if extra:
        raise CheckpointError(_difference(path, found, wanted))
    target.load_state_dict({stem + key: found[key] for key in wanted})


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _common_prefix(weights: Mapping[str, Tensor]) -> str:
    """The longest dotted prefix all keys share, leaving each at least one name."""
    heads = [key.split(".")[:-1] for key in weights]
    shared = []
    for names in zip(*heads, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return "".join(f"{name}." for name in shared)


def _candidates(weights: Weights) -> list[Weights]:
    """The weights under every prefix that occurs in the file, without that prefix; first the whole file."""
    prefixes = {""}
    for key in weights:
        names = key.split(".")[:-1]
        prefixes.update(".".join(names[: depth + 1]) + "." for depth in range(len(names)))
    return [
        {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        for prefix in sorted(prefixes, key=len)
    ]


def _score(found: Weights, wanted: Weights) -> tuple[int, int]:
    """How well weights fit: as many wanted ones of the right shape, then as few others as possible."""
    fitting = sum(key in found and found[key].shape == value.shape for key, value in wanted.items())
    return fitting, fitting - len(found)


def _difference(path: str | PathLike[str], found: Weights, wanted: Weights) -> str:
    both = [key for key in wanted if key in found]
    shapes = [
        f"{key} {list(found[key].shape)} instead of {list(wanted[key].shape)}"
        for key in both
        if found[key].shape != wanted[key].shape
    ]
    parts = (
        ("missing", [key for key in wanted if key not in found]),
        ("unexpected", [key for key in found if key not in wanted]),
        ("of another shape", shapes),
    )
    text = "; ".join(f"{len(keys)} {what}: {few(keys, 3)}" for what, keys in parts if keys)
    return (
        f"{path} holds the weights of another network ({text}): set model, its settings and the data to "
        "those it was trained with, or give another checkpoint"
    )
