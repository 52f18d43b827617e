"""What an operator says of itself, so that nobody has to know it by name."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from snn_lightning.errors import ConversionError


@dataclass(frozen=True)
class Traits:
    """What is particular to an operator; by default it is affine and has no weights.

    Args:
        settings: the attributes of a module that rebuild it.
        linear: whether the mean over time of its outputs is its output on the mean, but for a constant.
        weighted: whether it is a synapse: it has a `weight` and a `bias` (or None), its multiply-accumulates
            count, and a calibration may change it.
        channels_lead: whether the rows and columns of its weight are output and input channels; transposed
            convolutions have them the other way round.
        moves: whether its outputs are some of its inputs, elsewhere.
        analog: whether it reads means over time and runs once an inference, as it does in the ANN.
        fresh: whether its result is always memory of its own.
        pools: "max" or "average" if it takes one value of a window, or their mean.
        average: of a max pooling, the average pooling of the same windows.

    Example:
        >>> Traits(moves=True).keeps_sign
        True
    """

    settings: tuple[str, ...] = ()
    linear: bool = True
    weighted: bool = False
    channels_lead: bool = False
    moves: bool = False
    analog: bool = False
    fresh: bool = False
    pools: str = ""
    average: type[nn.Module] | None = None

    @property
    def keeps_sign(self) -> bool:
        """Whether values that are not negative stay so."""
        return self.moves or bool(self.pools)

    def passed_on(self, module: nn.Module, events: Sequence[Tensor]) -> Tensor:
        """Return how many events leave each place, given how many come into each: they are passed on.

        Args:
            module: the operator; no synapse.
            events: for each of its inputs, `[B, ...]`, float64.
        """
        return cast(Tensor, module(*events))

    def carried(self, module: nn.Module, scale: Tensor, features: int | None) -> Tensor | None:
        """Return by how much the output is scaled if the input is, or None where that is no such factor.

        Args:
            module: the operator.
            scale: positive, `[]` or one factor a channel, `[C]`.
            features: how many the linear layers have that alone read the output; None where others read it.
        """
        return None

    def window(self, module: nn.Module, size: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Return kernel, stride and padding of the convolution that an average pooling is.

        Args:
            module: the average pooling.
            size: spatial size of its input.

        Raises:
            ConversionError: it is none.
        """
        raise NotImplementedError


class Shifting(Traits):
    """Scales and shifts each value, perhaps of a larger shape: a shift is no event."""

    def passed_on(self, module: nn.Module, events: Sequence[Tensor]) -> Tensor:
        """Return the events in the shape of the output."""
        return events[0] + torch.zeros_like(cast(Tensor, copy.deepcopy(module).double()(events[0])))


class Adding(Traits):
    """A sum of two values."""

    def passed_on(self, module: nn.Module, events: Sequence[Tensor]) -> Tensor:
        """Return all events: a scaled or subtracted one is still one."""
        return events[0] + events[1]


class Averaging(Traits):
    """A mean of several values: it passes on the events of all."""

    def passed_on(self, module: nn.Module, events: Sequence[Tensor]) -> Tensor:
        """Return the sum over each window."""
        ones = torch.ones_like(events[0])
        means = cast(Tensor, module(ones))
        return cast(Tensor, module(events[0])) * self._places(module, ones, means)

    def _places(self, module: nn.Module, ones: Tensor, means: Tensor) -> float:
        return ones.numel() / means.numel()


class Flattening(Traits):
    """Joins the dimensions behind the batch."""

    def carried(self, module: nn.Module, scale: Tensor, features: int | None) -> Tensor | None:
        """Return a factor for each feature, if all dimensions are joined and linear layers read them."""
        if (module.start_dim, module.end_dim) != (1, -1) or features is None:
            return None
        return scale.repeat_interleave(features // max(scale.numel(), 1)) if scale.dim() else scale


class Pooling(Traits):
    """Takes windows of each channel by itself."""

    def carried(self, module: nn.Module, scale: Tensor, features: int | None) -> Tensor | None:
        """Return the same factor."""
        return scale


class AveragePooling(Pooling, Averaging):
    """The mean of each window."""

    def window(self, module: nn.Module, size: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Return kernel, stride and padding; see `Traits.window`."""
        dims = len(size)
        kernel, padding = _tuple(module.kernel_size, dims), _tuple(module.padding, dims)
        stride = _tuple(module.stride or module.kernel_size, dims)
        uneven = any((s + 2 * p - k) % t for s, p, k, t in zip(size, padding, kernel, stride, strict=True))
        not_counted = any(padding) and not module.count_include_pad
        if (module.ceil_mode and uneven) or not_counted or getattr(module, "divisor_override", None):
            raise ConversionError(
                "Average pooling with ceil_mode or uncounted padding is no convolution; use "
                "convert_avg_pool=False."
            )
        return kernel, stride, padding

    def _places(self, module: nn.Module, ones: Tensor, means: Tensor) -> float:
        return float(torch.Size(_tuple(module.kernel_size, ones.dim() - 2)).numel())


class AdaptiveAveragePooling(Pooling, Averaging):
    """The mean of each window, whose size follows from the input's."""

    def window(self, module: nn.Module, size: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Return kernel, stride and padding; see `Traits.window`."""
        wanted = _tuple(module.output_size, len(size))
        target = tuple(s if t is None else t for s, t in zip(size, wanted, strict=True))
        if any(s % t for s, t in zip(size, target, strict=True)):
            raise ConversionError(
                f"Adaptive average pooling from {size} to {target} has uneven windows; use "
                "convert_avg_pool=False."
            )
        kernel = tuple(s // t for s, t in zip(size, target, strict=True))
        return kernel, kernel, (0,) * len(size)


def _tuple(value: Any, dims: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * dims
