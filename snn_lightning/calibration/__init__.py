"""The greedy walk, its cache, and one file for each thing it calibrates."""

from snn_lightning.calibration.api import calibrate, convert
from snn_lightning.calibration.augmentation import Augmentation
from snn_lightning.calibration.baselines import QCFS, RMP, RNL, TSC, MaxAct, Opt, RobustNorm, SpikeNorm
from snn_lightning.calibration.budget import BudgetResult, calibrate_to
from snn_lightning.calibration.pipelines import (
    ACP,
    LCP,
    Baseline,
    Best,
    Pipeline,
)
from snn_lightning.calibration.steps.base import FinalStep, Step, register_step
from snn_lightning.calibration.steps.bias import Bias
from snn_lightning.calibration.steps.distillation import Distillation
from snn_lightning.calibration.steps.least_squares import LeastSquares
from snn_lightning.calibration.steps.potential import Potential
from snn_lightning.calibration.steps.threshold_balancing import Balance
from snn_lightning.calibration.steps.threshold_search import NeuronSearch
from snn_lightning.calibration.steps.weights import Weights

__all__ = [
    "ACP",
    "LCP",
    "QCFS",
    "RMP",
    "RNL",
    "TSC",
    "Augmentation",
    "Balance",
    "Baseline",
    "Best",
    "Bias",
    "BudgetResult",
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
    "calibrate_to",
    "convert",
    "register_step",
]
