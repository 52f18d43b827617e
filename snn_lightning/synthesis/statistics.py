"""What a network's activations were like in training: a mean and a variance for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from snn_lightning import files
from snn_lightning.errors import CalibrationError, CheckpointError, few
from snn_lightning.files import read_checkpoint, save_checkpoint, tensor_bytes
from snn_lightning.graph.capture.trace import copied, unwrap
from snn_lightning.graph.parts import run_model
from snn_lightning.graph.threads import alone

FORMAT = "snn_lightning activation statistics"
REMEDY = (
    "Where there are some real inputs, capture the statistics once, "
    "capture_statistics(ann, loader).save(FILE), and give them: statistics=, or synthesis.statistics=FILE."
)


@dataclass(frozen=True)
class ActivationStatistics:
    """Mean and variance of each channel, by layer.

    Args:
        layers: from a module's qualified name to mean and variance, `[C]` each, in activation units: of what
            comes into a batch norm, of what comes out of any other module.

    Example:
        >>> statistics = ActivationStatistics.of_batch_norms(nn.Sequential(nn.BatchNorm2d(2)))
        >>> statistics.layers["0"]
        (tensor([0., 0.]), tensor([1., 1.]))
    """

    layers: Mapping[str, tuple[Tensor, Tensor]]

    @classmethod
    def of_batch_norms(cls, ann: nn.Module) -> ActivationStatistics:
        """Return the running statistics of a network's batch norms.

        Raises:
            CalibrationError: it has none.
        """
        layers, without = {}, []
        for name, module in unwrap(ann).named_modules():
            if (running := _running(module)) is not None:
                layers[name] = running
            elif isinstance(module, _BatchNorm):
                without.append(name)
        if not layers:
            why = f" with running statistics ({few(without)} track none)" if without else ""
            raise CalibrationError(
                f"{type(ann).__name__} has no batch norm{why}, so nothing in it says what its inputs were "
                f"like. {REMEDY}"
            )
        return cls(layers)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> ActivationStatistics:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged or something else.
        """
        content = read_checkpoint(path)
        layers = content.get("layers") if content.get("format") == FORMAT else None
        if not isinstance(layers, dict) or not all(map(_is_pair, layers.values())):
            raise CheckpointError(
                f"'{path}' holds no activation statistics. Write them with "
                "capture_statistics(ann, loader).save(path)."
            )
        return cls({str(name): (mean, variance) for name, (mean, variance) in layers.items()})

    def save(self, path: str | PathLike[str]) -> None:
        """Write the statistics to a file: a few numbers a channel, no image."""
        layers = {
            name: [part.detach().float().cpu().clone() for part in pair] for name, pair in self.layers.items()
        }
        save_checkpoint(str(path), {"format": FORMAT, "layers": layers})

    def fingerprint(self) -> str:
        """Return sixteen hexadecimal digits that tell statistics apart."""
        parts: list[bytes | memoryview] = []
        for name, pair in sorted(self.layers.items()):
            parts += [name.encode(), *(tensor_bytes(tensor.float()) for tensor in pair)]
        return files.fingerprint(parts)

    def check(self, ann: nn.Module) -> None:
        """Check that the statistics are of such a network.

        Raises:
            CheckpointError: a layer is missing in it, or has another number of channels.
        """
        modules = dict(ann.named_modules())
        wrong = [name for name in self.layers if name not in modules]
        what = "that it doesn't have"
        if not wrong:
            what = "that have another number of channels in it"
            wrong = [
                name
                for name, (mean, _) in self.layers.items()
                if len(mean) != _channels(modules[name], len(mean))
            ]
        if wrong:
            raise CheckpointError(
                f"The activation statistics are of another network than {type(ann).__name__}: of layers "
                f"{what} ({few(wrong)}). Give those of this network: capture_statistics(ann, loader)."
            )


def capture_statistics(ann: nn.Module, loader: Iterable[Any]) -> ActivationStatistics:
    """Return the statistics of a network's convolutions and linear layers on real inputs.

    For networks without batch norm. They are sums over all inputs, in float64 and in one pass: the order and
    the size of the batches don't matter. A few numbers a channel can be passed on where the inputs can't.

    Args:
        ann: it is left as it is.
        loader: batches of inputs `[N, ...]`, or of tuples that start with them.

    Raises:
        CalibrationError: there are no inputs, the network fails on them, has no such layer, or gives NaN.

    Example:
        >>> ann = nn.Sequential(nn.Linear(2, 1, bias=False))
        >>> _ = nn.init.ones_(ann[0].weight)
        >>> capture_statistics(ann, [torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 3.0]])]).layers["0"]
        (tensor([4.]), tensor([4.]))
    """
    network = copied(unwrap(ann)).eval()
    names = [name for name, module in network.named_modules() if isinstance(module, _ConvNd | nn.Linear)]
    sums: dict[str, Tensor] = {}
    with alone(), torch.inference_mode(False), torch.no_grad():
        for batch in loader:
            with watched(network, names) as seen:
                run_model(network, batch)
            for name, parts in seen.items():
                for part in parts:
                    x = part.movedim(channel_dim(network.get_submodule(name)), 0).flatten(1).double()
                    count = torch.full_like(x[:, 0], x.shape[1])
                    total = torch.stack([count, x.sum(1), x.square().sum(1)])
                    sums[name] = sums[name] + total if name in sums else total
    if not sums:
        raise CalibrationError(
            f"Statistics of {type(ann).__name__} can't be captured: the loader is empty, or the network "
            "calls no convolution and no linear layer."
        )
    if bad := [name for name, total in sums.items() if not total.isfinite().all()]:
        raise CalibrationError(
            f"{type(ann).__name__} gives NaN or infinite values on these inputs, at {few(bad)}: check its "
            "weights and the inputs."
        )
    layers = {}
    for name, (count, total, squares) in sums.items():
        mean = total / count
        layers[name] = mean.float(), (squares / count - mean.square()).clamp(min=0).float()
    return ActivationStatistics(layers)


@contextmanager
def watched(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Record what statistics are of, in the order of the calls: a batch norm's input, else a module's output.

    Args:
        network: whose calls are recorded inside the context.
        names: of the modules.
    """
    seen: dict[str, list[Tensor]] = {}
    handles = [_watch(network.get_submodule(name), name, seen) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def channel_dim(module: nn.Module) -> int:
    """Return which dimension of what is recorded at a module is that of the channels."""
    return -1 if isinstance(module, nn.Linear) else 1


def _watch(module: nn.Module, name: str, seen: dict[str, list[Tensor]]) -> Any:
    if _running(module) is not None:
        return module.register_forward_pre_hook(
            lambda module, args: seen.setdefault(name, []).append(args[0])
        )
    # A copy: an activation behind it may work in place.
    return module.register_forward_hook(
        lambda module, args, output: seen.setdefault(name, []).append(output.clone())
    )


def _running(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return the running statistics of a batch norm, frozen ones too, None of all else."""
    mean, variance = getattr(module, "running_mean", None), getattr(module, "running_var", None)
    # An instance norm's are means of each image's own.
    if isinstance(module, _InstanceNorm) or not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return None
    return mean.detach().clone(), variance.detach().clone()


def _channels(module: nn.Module, default: int) -> int:
    names = ("num_features", "out_channels", "out_features")
    return next((int(getattr(module, name)) for name in names if hasattr(module, name)), default)


def _is_pair(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(part, Tensor) and part.dim() == 1 and len(part) == len(pair[0]) for part in pair)
    )
