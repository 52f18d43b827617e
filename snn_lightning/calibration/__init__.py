"""The greedy walk, its cache, and one file for each thing it calibrates."""

from snn_lightning.calibration.api import calibrate, convert
from snn_lightning.calibration.baselines import QCFS, RMP, RNL, TSC, MaxAct, Opt, RobustNorm, SpikeNorm
from snn_lightning.calibration.pipelines import (
    ACP,
    LCP,
    Baseline,
    Best,
    Bias,
    Distillation,
    FinalStep,
    LeastSquares,
    Pipeline,
    Potential,
    Step,
    Weights,
)
from snn_lightning.calibration.steps.registry import register_step
from snn_lightning.calibration.steps.threshold_balancing import Balance
from snn_lightning.calibration.steps.threshold_search import NeuronSearch

__all__ = [
    "ACP",
    "LCP",
    "QCFS",
    "RMP",
    "RNL",
    "TSC",
    "Balance",
    "Baseline",
    "Best",
    "Bias",
    "Distillation",
    "FinalStep",
    "LeastSquares",
    "MaxAct",
    "NeuronSearch",
    "Opt",
    "Pipeline",
    "Potential",
    "RobustNorm",
    "SpikeNorm",
    "Step",
    "Weights",
    "calibrate",
    "convert",
    "register_step",
]
