"""The work of a pipeline, in the cost model's numbers."""

from __future__ import annotations

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.pipelines import (
    Bias,
    Distillation,
    LeastSquares,
    Pipeline,
    Potential,
    Weights,
)
from snn_lightning.calibration.steps.threshold_search import NeuronSearch
from snn_lightning.calibration.steps.weights import POWER_ITERATIONS


def work_of(pipeline: Pipeline, images: int, processes: int = 1) -> Work:
    """Return what a pipeline does, as the plain numbers of the cost model.

    Args:
        pipeline: what to calibrate; of its steps the package's own are counted.
        images: of the calibration set, over all processes.
        processes: number of processes.
    """
    corrected, searched, numbers = 0, 0, dict[str, int]()
    for step in pipeline.steps:
        if isinstance(step, Bias | Potential | NeuronSearch):
            used = images if step.images is None else step.images
            corrected += used * (step.repeats if isinstance(step, Bias) else 1)
            searched += used * (step.candidates - 1) if isinstance(step, NeuronSearch) else 0
        elif isinstance(step, Weights):
            numbers = {"iterations": step.iterations, "batch_size": step.batch_size}
            numbers["power_iterations"] = 0 if step.learning_rate else POWER_ITERATIONS
        elif isinstance(step, LeastSquares):
            numbers = {"solutions": step.iterations}
    for last in pipeline.final_steps:
        if isinstance(last, Distillation):
            numbers["distilled"] = last.iterations_at(pipeline.timesteps) * last.batch_size
    budget = None if pipeline.cache_budget_gb is None else pipeline.cache_budget_gb * 1e9
    return Work(
        images,
        pipeline.timesteps,
        corrected,
        readout=pipeline.calibrate_readout,
        budget=budget,
        processes=processes,
        spike_bits=pipeline.neuron.build().spike_bits,
        searched=searched,
        **numbers,
    )
