"""The calibration images of a network inside a LightningModule, and checks that they are what it receives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from snn_lightning.calibration.recording import RERUN_TOLERANCE, Call, Code, Part, Recorder, recorded
from snn_lightning.callbacks.networks import noted, whole
from snn_lightning.callbacks.own_code import choose
from snn_lightning.callbacks.without_trace import without_trace
from snn_lightning.errors import CalibrationError, SNNLightningError
from snn_lightning.graph.parts import own_copy

FLOAT32 = ("32-true", "64-true")
MIXED_TOLERANCE = 0.1
"""In place of `RERUN_TOLERANCE` in the other precisions of a Trainer."""

RUNNING = {
    TrainerFn.VALIDATING: "validation_step",
    TrainerFn.TESTING: "test_step",
    TrainerFn.PREDICTING: "predict_step",
}


class ModuleRecorder(Recorder):
    """Runs a LightningModule's own code on calibration batches, and notes what its network receives.

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
        network: Part,
        inputs: Callable[[Any], Tensor] | None = None,
        choose_whole: bool = False,
    ) -> None:
        super().__init__(network)
        self.trainer, self.inputs, self.choose_whole = trainer, inputs, choose_whole
        self.tolerance = RERUN_TOLERANCE if str(trainer.precision) in FLOAT32 else MIXED_TOLERANCE

    @property
    def device(self) -> torch.device:
        """The Trainer's."""
        return self.trainer.strategy.root_device

    def context(self) -> AbstractContextManager[None]:
        """Return what the code runs in: nothing is logged, and no state left behind."""
        return without_trace(self.trainer, self.module)

    @property
    def module(self) -> LightningModule:
        """The user's."""
        return cast(LightningModule, self.network.module)

    def choose(self, batch: Any) -> Code:
        """Find out what of the module's code reaches the network, and whether the network is all it uses."""
        if self.inputs is not None:
            return self._given(self.inputs)
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

        module = self.module
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

    def _given(self, inputs: Callable[[Any], Tensor]) -> Code:
        module, path = self.network.module, self.network.path
        # The ANN, and later what is in its place.
        return lambda batch, index: module.get_submodule(path)(inputs(batch))
