"""Refusals of setups that a calibration can't work with, before anything is trained."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from snn_lightning.callbacks.averaging import WeightAveraging
from snn_lightning.errors import CalibrationError
from snn_lightning.spiking.checkpoint import find_spiking_model, runs_whole


def refuse_trainer(trainer: Trainer, calibration: Callback) -> None:
    """Refuse a Trainer whose processes, precision or other callbacks would spoil the SNN.

    Args:
        trainer: it.
        calibration: the callback that calibrates.

    Raises:
        CalibrationError: says what, and what to use in its place.
    """
    strategy = trainer.strategy
    if isinstance(getattr(strategy, "launcher", None), _MultiProcessingLauncher):
        raise CalibrationError(
            "Calibration needs processes that live as long as the program: spawn, fork and notebook "
            "launchers lose the calibrated network. Use strategy='ddp', torchrun, or one device."
        )
    if not isinstance(strategy, DDPStrategy | SingleDeviceStrategy):
        raise CalibrationError(
            f"Calibration needs whole parameters on every process, which {type(strategy).__name__} "
            "shards. Use strategy='ddp' or one device."
        )
    if str(trainer.precision).endswith("-true") and trainer.precision not in ("32-true", "64-true"):
        raise CalibrationError(
            f"Calibration at precision='{trainer.precision}' would round thresholds and potentials. Use "
            "'32-true' or a mixed precision."
        )
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks[callbacks.index(calibration) :] if calibration in callbacks else ():
        if isinstance(callback, WeightAveraging | StochasticWeightAveraging):
            raise CalibrationError(
                f"A {type(callback).__name__} callback is listed after CalibrationCallback and would "
                "overwrite the SNN with the averaged ANN. List it before."
            )


def refuse_frozen(module: LightningModule) -> None:
    """Refuse to train a module in which there is nothing to train but a frozen SNN.

    Raises:
        CalibrationError: says how to train it, or to go back to the ANN.
    """
    found = find_spiking_model(module)
    if found is None or any(parameter.requires_grad for parameter in found[1].parameters()):
        return
    name, snn = found
    if runs_whole(module, snn) or not any(p.requires_grad for p in module.parameters()):
        raise CalibrationError(
            f"'{name}' holds a calibrated SNN, which is frozen: there is nothing to train. To train it "
            f"with surrogate gradients call module.{name}.requires_grad_(True) before fit; to go back to "
            "the ANN build the module anew and load its checkpoint."
        )
