"""The calibration images of a network inside a LightningModule, and checks that they are what it receives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from snn_lightning.calibration.images import check_images
from snn_lightning.callbacks.networks import Network, noted, whole
from snn_lightning.callbacks.own_code import Code, batches_on_device, choose
from snn_lightning.callbacks.recording import (
    Call,
    own_copy,
    recorded,
    tensors_of,
    without_trace,
)
from snn_lightning.errors import CalibrationError, SNNLightningError
from snn_lightning.graph.precision import own_precision
from snn_lightning.spiking.model import SpikingModel

RERUN_TOLERANCE = {"32-true": 1e-3, "64-true": 1e-3}
"""Relative error between two runs of an ANN by the Trainer's precision."""
MIXED_TOLERANCE = 0.1

MANY = 100_000
"""More calibration images than anybody needs."""

RUNNING = {
    TrainerFn.VALIDATING: "validation_step",
    TrainerFn.TESTING: "test_step",
    TrainerFn.PREDICTING: "predict_step",
}


class _Reached(BaseException):
    """Ends the user's code at the SNN; no Exception, so that it is not caught there."""


class Recorder:
    """Runs a module's own code on calibration batches, and notes what its network receives.

    Args:
        trainer: says where and in which precision.
        network: the part to be converted.
        inputs: of a batch, in place of the module's code; or None.
        choose_whole: take the module's `forward` whole where it uses other layers than the network's.

    Attributes:
        network: the part to be converted; known for good after `record`.
    """

    def __init__(
        self,
        trainer: Trainer,
        network: Network,
        inputs: Callable[[Any], Tensor] | None = None,
        choose_whole: bool = False,
    ) -> None:
        self.trainer, self.network, self.inputs = trainer, network, inputs
        self.choose_whole = choose_whole
        self._code: Code | None = None
        self._first: tuple[Any, Call] | None = None

    def record(self, loader: Iterable[Any], seed: int) -> list[Tensor]:
        """Return what the network receives in each of its calls, `[N, ...]`, on the CPU.

        Raises:
            CalibrationError: nothing reaches it, it takes more than one tensor, or values aren't finite.
        """
        received: list[Tensor] = []
        count, warned = 0, False
        with without_trace(self.trainer, self.network.module):
            for index, batch in enumerate(batches_on_device(self.trainer, loader, seed)):
                calls: list[Call] = []
                if self._code is None:
                    self._code = self._choose(batch)
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
        return check_images(received)

    def check(self, snn: SpikingModel) -> None:
        """Run the module's code with the SNN in place, on the first batch and up to it.

        Raises:
            CalibrationError: it doesn't get there.
        """
        assert self._code is not None
        assert self._first is not None
        batch, call = self._first
        received: list[Tensor] = []

        def stop(x: Tensor) -> None:
            received.append(x.detach().to("cpu", call.inputs.dtype))
            raise _Reached

        snn.listener = stop
        try:
            with without_trace(self.trainer, self.network.module):
                code = self._code if self.inputs is None else self._given(snn)
                code(own_copy(batch), 0)
        except _Reached:
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

    def _choose(self, batch: Any) -> Code:
        """Find out what of the module's code reaches the network, and whether the network is all it uses."""
        if self.inputs is not None:
            return self._given(self.network.ann)
        inside: list[str] = []
        outside: list[str] = []

        def reached(code: Code) -> list[Tensor]:
            calls: list[Call] = []
            inside.clear()
            outside.clear()
            with recorded(self.network.ann, calls), noted(self.network, inside, outside):
                code(own_copy(batch), 0)
            return [call.inputs for call in calls]

        def chosen() -> Code:
            return choose(module, batch, self._running, reached, self.network.title)

        module = self.network.module
        if not self.choose_whole or not self.network.path:
            return chosen()
        try:
            code = chosen()
        except CalibrationError as error:
            if not is_overridden("forward", module):
                raise
            # What has a usual name may be something else.
            try:
                self.network = whole(module)
                return chosen()
            except SNNLightningError:
                raise error from None
        if inside:
            self.network = whole(module)
            return chosen()
        if outside:
            names = ", ".join(f"'{name}'" for name in dict.fromkeys(outside))
            warnings.warn(
                f"Only {self.network.title} becomes spiking: {names} of {type(module).__name__} run beside "
                "it and stay analog. Name the part to say that this is meant: CalibrationCallback(..., "
                f"network='{self.network.path}').",
                stacklevel=2,
            )
        return code

    @property
    def _running(self) -> str | None:
        """The step that the Trainer is about to run; None at the end of a training."""
        function = self.trainer.state.fn
        return None if function is None else RUNNING.get(function)

    def _given(self, network: Any) -> Code:
        inputs = self.inputs
        assert inputs is not None
        return lambda batch, index: network(inputs(batch))

    def _compare(self, call: Call) -> None:
        """Warn if the network by itself gives something else than it gave inside the module."""
        device = self.trainer.strategy.root_device
        with own_precision("float32", device):
            alone = tensors_of(self.network.ann(call.inputs.to(device)))
        error = relative_error([part.cpu() for part in alone], call.output)
        self._warn(error, "gives another output inside the module than by itself on the same input")

    def _warn(self, error: float, what: str) -> None:
        # Not where the error is NaN: what isn't finite is refused by itself.
        if error > RERUN_TOLERANCE.get(str(self.trainer.precision), MIXED_TOLERANCE):
            warnings.warn(
                f"{self.network.title} {what} (relative error {error:.2g}): the module's code depends on "
                "something besides the network's input, such as a hook, a state or the network's attributes. "
                "The SNN is calibrated to what was recorded; move that into the network's forward, or in "
                "front of it.",
                stacklevel=2,
            )


def relative_error(got: list[Tensor], expected: list[Tensor]) -> float:
    """Return ||got - expected|| / ||expected|| over all tensors; infinite where their shapes differ."""
    if [part.shape for part in got] != [part.shape for part in expected]:
        return float("inf")
    difference = sum((a.double() - b.double()).square().sum() for a, b in zip(got, expected, strict=True))
    norm = sum(part.double().square().sum() for part in expected)
    return float((torch.as_tensor(difference) / torch.as_tensor(norm).clamp(min=1e-24)).sqrt())
