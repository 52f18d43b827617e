"""What a part of a model receives while the code around it runs, and whether its SNN receives the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.calibration.images import check_images
from snn_lightning.errors import CalibrationError
from snn_lightning.graph.parts import (
    Reached,
    device_of,
    instead_of_forward,
    never_called,
    only_tensor,
    own_copy,
)
from snn_lightning.graph.precision import own_precision
from snn_lightning.graph.threads import alone
from snn_lightning.spiking.checkpoint import WHOLE, place
from snn_lightning.spiking.model import SpikingModel

Code = Callable[[Any, int], object]
"""Called with a batch and its number."""

RERUN_TOLERANCE = 1e-3
"""Relative error between two runs of an ANN in float32."""

MANY = 100_000
"""More calibration images than anybody needs."""


@dataclass(frozen=True)
class Part:
    """The part of a model that becomes spiking.

    Args:
        module: the model.
        path: qualified name of the part, "" for the model's own `forward`.
        ann: the part, or the model itself.
    """

    module: nn.Module
    path: str
    ann: nn.Module

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"the network '{self.path}'" if self.path else f"{type(self.module).__name__}.forward"

    @cached_property
    def paths(self) -> list[str]:
        """Every name under which the model holds it; for the model's own `forward` that of the SNN.

        They stay those of the ANN, whatever takes its place.
        """
        if not self.path:
            return [WHOLE]
        same = [name for name, part in self.module.named_modules(remove_duplicate=False) if part is self.ann]
        return [self.path, *(name for name in same if name != self.path)]

    def replace(self, snn: SpikingModel) -> Callable[[], None]:
        """Put the SNN into its place; returns what puts the ANN back."""
        return place(self.module, snn, self.paths, whole=not self.path)


@dataclass
class Call:
    """One call of a network.

    Args:
        inputs: what it received, `[N, ...]`, on the CPU, in the type of the network's parameters.
        output: the tensors that it gave, on the CPU.
    """

    inputs: Tensor
    output: list[Tensor]


class Recorder:
    """Runs code on calibration batches, and notes what a part of the model receives.

    Args:
        network: the part to be converted.
        code: runs the model.

    Attributes:
        network: the part to be converted.
        tolerance: relative error between two runs of the part, or between its inputs, that needs no warning.
    """

    tolerance = RERUN_TOLERANCE

    def __init__(self, network: Part, code: Code | None = None) -> None:
        self.network, self._code = network, code
        self._first: tuple[Any, Call] | None = None

    def record(self, batches: Iterable[Any]) -> list[Tensor]:
        """Return what the network receives in each of its calls, `[N, ...]`, on the CPU.

        Args:
            batches: each as the code takes it.

        Raises:
            CalibrationError: nothing reaches it, it takes more than one tensor, or values aren't finite.
        """
        received: list[Tensor] = []
        count, warned = 0, False
        with self.context():
            for index, batch in enumerate(batches):
                calls: list[Call] = []
                if self._code is None:
                    self._code = self.choose(batch)
                with recorded(self.network.ann, calls):
                    self._code(own_copy(batch), index)
                if self._first is None and calls:
                    self._first = batch, calls[0]
                    self._compare(calls[0])
                received.extend(call.inputs for call in calls)
                count += sum(len(call.inputs) for call in calls)
                if count > MANY and not warned:
                    warned = True
                    warnings.warn(
                        f"The calibration loader has given {MANY} images and goes on; all are kept in "
                        "memory. If it has no end, limit it: some thousand images are enough.",
                        stacklevel=2,
                    )
        if not received:
            raise never_called(self.network.module, [self.network.path])
        return check_images(received)

    def check(self, snn: SpikingModel) -> None:
        """Run the code with the SNN in place, on the first batch and up to it.

        Raises:
            CalibrationError: it doesn't get there.
        """
        assert self._code is not None
        assert self._first is not None
        batch, call = self._first
        received: list[Tensor] = []

        def stop(x: Tensor) -> None:
            received.append(x.detach().to("cpu", call.inputs.dtype))
            raise Reached

        snn.listener = stop
        try:
            with self.context():
                self._code(own_copy(batch), 0)
        except Reached:
            pass
        except Exception as error:
            raise CalibrationError(
                f"The code of {type(self.network.module).__name__} fails with the SNN in place of "
                f"{self.network.title} ({type(error).__name__}: {error}): let it call that as a whole, with "
                "one tensor, and not its parts."
            ) from error
        finally:
            snn.listener = None
        if not received:
            raise CalibrationError(
                f"The code of {type(self.network.module).__name__} does not reach the SNN that has replaced "
                f"{self.network.title}: it gets at the ANN another way. Let it call the attribute itself."
            )
        self._warn(relative_error([received[0]], [call.inputs]), "receives something else than the ANN did")

    def choose(self, batch: Any) -> Code:
        """Return the code, where it depends on what a batch looks like."""
        raise NotImplementedError

    def context(self) -> AbstractContextManager[None]:
        """Return what the code runs in."""
        return _in_float32(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.network.module) or torch.device("cpu")

    def _compare(self, call: Call) -> None:
        """Warn if the network by itself gives something else than it gave inside the model."""
        with own_precision("float32", self.device):
            output = tensors_of(self.network.ann(call.inputs.to(self.device)))
        error = relative_error([part.cpu() for part in output], call.output)
        self._warn(error, "gives another output inside the module than by itself on the same input")

    def _warn(self, error: float, what: str) -> None:
        # Not where the error is NaN: what isn't finite is refused by itself.
        if error > self.tolerance:
            warnings.warn(
                f"{self.network.title} {what} (relative error {error:.2g}): the module's code depends on "
                "something besides the network's input, such as a hook, a state or the network's attributes. "
                "The SNN is calibrated to what was recorded; move that into the network's forward, or in "
                "front of it.",
                stacklevel=2,
            )


@contextmanager
def _in_float32(device: torch.device) -> Iterator[None]:
    with own_precision("float32", device), alone(), torch.no_grad():
        yield


@contextmanager
def recorded(network: nn.Module, calls: list[Call]) -> Iterator[None]:
    """Append every call of `network`, or of its `forward`, to `calls`.

    Raises:
        CalibrationError: inside the context, where it is called with something else than one tensor.
    """
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    forward = network.forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        x = only_tensor(args, kwargs)
        # A copy: the network, or the module's code after it, may work in place.
        inputs = x.to("cpu", dtype if x.is_floating_point() else None, copy=True)
        output = forward(*args, **kwargs)
        calls.append(Call(inputs, [part.detach().to("cpu", copy=True) for part in tensors_of(output)]))
        return output

    with instead_of_forward(network, recording):
        yield


def tensors_of(output: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    if isinstance(output, Tensor):
        return [output]
    parts = (
        output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else ()
    )
    return [tensor for part in parts for tensor in tensors_of(part)]


def relative_error(got: list[Tensor], expected: list[Tensor]) -> float:
    """Return ||got - expected|| / ||expected|| over all tensors; infinite where their shapes differ."""
    if [part.shape for part in got] != [part.shape for part in expected]:
        return float("inf")
    difference = sum((a.double() - b.double()).square().sum() for a, b in zip(got, expected, strict=True))
    norm = sum(part.double().square().sum() for part in expected)
    return float((torch.as_tensor(difference) / torch.as_tensor(norm).clamp(min=1e-24)).sqrt())
