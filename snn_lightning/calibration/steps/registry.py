"""The registry of calibration steps, and the threshold that comes before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from snn_lightning.calibration.walk.context import StageContext, StepReport
from snn_lightning.errors import CalibrationError
from snn_lightning.spiking.neurons.dynamics import ROUNDINGS
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.thresholds import Threshold, histogram, row_maximum, squared_errors

StepFunction = Callable[[Any, Any], StepReport]
_STEPS: dict[type, StepFunction] = {}


def register_step(settings: type) -> Callable[[StepFunction], StepFunction]:
    """Register the function that runs a step, by the class of its settings."""

    def register(function: StepFunction) -> StepFunction:
        _STEPS[settings] = function
        return function

    return register


def run_step(settings: Any, context: Any) -> StepReport:
    """Run the step that `settings` describe, on a `StageContext` or, a final step, a `NetworkContext`.

    Raises:
        CalibrationError: no function is registered for it.
    """
    if type(settings) not in _STEPS:
        raise CalibrationError(
            f"No function is registered for the step {type(settings).__name__}: put @register_step("
            f"{type(settings).__name__}) on it, and import the module that holds it."
        )
    return _STEPS[type(settings)](settings, context)


def calibrate_threshold(threshold: Threshold, rounding: str, context: StageContext) -> StepReport:
    """Set the neuron's threshold from the ANN's activations, and potential and bias as `rounding` wants.

    Returns:
        The quantisation error (no input error) with the largest activation as the largest rate, and with the
        chosen one.
    """
    assert rounding in ROUNDINGS
    neuron, communicator = context.unit, context.communicator
    assert isinstance(neuron, IFNeuron)
    channelwise, half_step = threshold.channelwise, rounding != "floor"
    local = row_maximum((x.get() for x in context.activations), channelwise)
    maximum = communicator.max(local)
    # k spikes a step have the levels of k T steps at k times the threshold: the largest rate is searched.
    levels = context.timesteps * neuron.highest
    bins = threshold.bins(levels)
    counts = histogram((x.get() for x in context.activations), maximum, channelwise, bins)
    counts = type(counts)(maximum, *(communicator.sum(part) for part in counts.parts()))
    site = context.snn.network.nodes[context.stage.name]
    largest = threshold.at_site(counts, levels, half_step, site.settings["cap"], site.path or site.name)
    v_th = largest / neuron.highest
    neuron.set_threshold(v_th if channelwise else v_th[0], rounding, context.timesteps)
    norm = counts.second.sum().item()
    if norm == 0:
        return StepReport(0.0, 0.0)
    maximum = maximum.double().clamp(min=torch.finfo(torch.float32).tiny)
    fractions = torch.stack([torch.ones_like(maximum), (largest.double() / maximum).clamp(max=1)], dim=1)
    errors = squared_errors(counts, fractions, levels, half_step).sum(0) / norm
    return StepReport(errors[0].item(), errors[1].item())
